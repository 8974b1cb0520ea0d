// wechatpay-axios-plugin through its option baseURL: API V2.
'use strict';

const { Wechatpay, Hash, Transformer } = require('wechatpay-axios-plugin');

exports.wechatV2 = async ({ at, key, admin, assert, notices, day }) => {
  const mchid = '1900000109';
  const wxpay = new Wechatpay({
    mchid, secret: key(`${mchid}/api_v2.key`), serial: '0', privateKey: key(`${mchid}/merchant_key.pem`),
    certs: { any: key('channel/root_pub.pem') }, merchant: { cert: key(`${mchid}/merchant_cert.pem`), key: key(`${mchid}/merchant_key.pem`) }, baseURL: at.wechat,
  });
  const common = { appid: 'wxd678efh567hg6787', mch_id: mchid, sign_type: 'HMAC-SHA256' };
  let calls = 0;
  const call = async (resource, fields) => {
    calls += 1;
    const { data } = await resource.post({ ...common, nonce_str: `n${calls}`, ...fields });
    assert.equal(data.return_code, 'SUCCESS', JSON.stringify(data));
    return data;
  };
  const order = { out_trade_no: 'SDKV21', body: '门诊缴费', total_fee: '12345', spbill_create_ip: '127.0.0.1' };

  let a = await call(wxpay.v2.pay.micropay, { ...order, auth_code: '130000000100000001' });
  assert.equal(a.result_code, 'SUCCESS', JSON.stringify(a));
  a = await call(wxpay.v2.pay.orderquery, { out_trade_no: order.out_trade_no });
  assert.equal(a.trade_state, 'SUCCESS');
  a = await call(wxpay.v2.secapi.pay.refund, { out_trade_no: order.out_trade_no, out_refund_no: 'RSDKV21', total_fee: '12345', refund_fee: '2345' });
  assert.equal(a.refund_fee, '2345', JSON.stringify(a));
  a = await call(wxpay.v2.pay.refundquery, { out_refund_no: 'RSDKV21' });
  assert.equal(a.refund_status_0, 'SUCCESS');
  a = await call(wxpay.v2.pay.unifiedorder, { ...order, out_trade_no: 'SDKV22', trade_type: 'NATIVE', notify_url: notices.url('/v2') });
  await admin('POST', '/pay', { code: a.code_url });
  const told = Transformer.toObject((await notices.next('/v2', (n) => n.body.includes('SDKV22'))).body);
  assert.equal(told.sign, Hash.sign(told.sign.length === 64 ? Hash.ALGO_HMAC_SHA256 : Hash.ALGO_MD5, told, key(`${mchid}/api_v2.key`)));
  a = await call(wxpay.v2.pay.orderquery, { out_trade_no: 'SDKV22' });
  assert.equal(a.trade_state, 'SUCCESS');
  a = await call(wxpay.v2.secapi.pay.reverse, { out_trade_no: 'SDKV23' });
  assert.equal(a.recall, 'N');

  return {
    name: 'wechatpay-axios-plugin, V2',
    get calls() { return calls; },
    async bills() {
      for (const [resource, fields] of [[wxpay.v2.pay.downloadbill, { bill_type: 'ALL' }], [wxpay.v2.pay.downloadfundflow, { account_type: 'Basic' }]]) {
        calls += 1;
        const { data } = await resource.post({ ...common, nonce_str: `n${calls}`, bill_date: day.replaceAll('-', ''), ...fields }, { transformResponse: [] });
        assert.match(data, fields.bill_type ? /`SDKV21,/ : /`RSDKV21/);
      }
    },
  };
};
