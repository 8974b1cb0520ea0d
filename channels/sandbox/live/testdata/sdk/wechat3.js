// wechatpay-axios-plugin through its option baseURL: API v3, by a platform certificate
// and by WeChat Pay's public key.
'use strict';

const { X509Certificate, createHash } = require('node:crypto');
const { Wechatpay, Rsa, Aes, Formatter } = require('wechatpay-axios-plugin');
const { isProbe } = require('./notices.js');

exports.wechatV3 = async ({ at, key, admin, assert, notices, day }) => {
  const mchid = '1900000109';
  const appid = 'wxd678efh567hg6787';
  const serialOf = (name) => new X509Certificate(key(name)).serialNumber;
  const publicID = `PUB_KEY_ID_01${mchid}2020010100`;
  const common = {
    mchid, serial: serialOf(`${mchid}/merchant_cert.pem`), privateKey: key(`${mchid}/merchant_key.pem`), secret: key(`${mchid}/api_v2.key`), baseURL: at.wechat,
  };
  const modes = {
    C: { certs: { [serialOf('channel/wechat_platform_1_cert.pem')]: key('channel/wechat_platform_1_cert.pem') } },
    P: { certs: { [publicID]: key('channel/wechat_public_pub.pem') }, headers: { 'Wechatpay-Serial': publicID } },
  };
  let calls = 0;
  const say = async (promise) => {
    calls += 1;
    try {
      return await promise;
    } catch (err) {
      throw new Error(`${err.message} ${JSON.stringify(err.response && err.response.data)}`);
    }
  };

  for (const [mode, config] of Object.entries(modes)) {
    const wxpay = new Wechatpay({ ...common, ...config });
    const order = `SDKV3${mode}1`;
    let { data } = await say(wxpay.v3.pay.transactions.native.post({
      mchid, appid, out_trade_no: order, description: '门诊缴费', notify_url: notices.url('/v3'), amount: { total: 12345, currency: 'CNY' },
    }));
    await admin('POST', '/pay', { code: data.code_url });
    ({ data } = await say(wxpay.v3.pay.transactions.outTradeNo.$out_trade_no$.get({ params: { mchid }, out_trade_no: order })));
    assert.equal(data.trade_state, 'SUCCESS');
    assert.equal(data.amount.total, 12345);

    const open = (n) => {
      const { resource } = JSON.parse(n.body);
      return JSON.parse(Aes.AesGcm.decrypt(resource.ciphertext, key(`${mchid}/api_v3.key`), resource.nonce, resource.associated_data));
    };
    const told = await notices.next('/v3', (n) => !isProbe(n) && open(n).out_trade_no === order);
    const { 'wechatpay-timestamp': when, 'wechatpay-nonce': nonce, 'wechatpay-signature': sign, 'wechatpay-serial': serial } = told.headers;
    assert.ok(config.certs[serial], serial);
    assert.ok(Rsa.verify(Formatter.joinedByLineFeed(when, nonce, told.body), sign, Rsa.from(config.certs[serial], Rsa.KEY_TYPE_PUBLIC)));
    assert.equal(open(told).trade_state, 'SUCCESS');

    ({ data } = await say(wxpay.v3.refund.domestic.refunds.post({
      out_trade_no: order, out_refund_no: `R${order}`, amount: { refund: 2345, total: 12345, currency: 'CNY' },
    })));
    assert.equal(data.amount.refund, 2345);
    ({ data } = await say(wxpay.v3.refund.domestic.refunds.$out_refund_no$.get({ out_refund_no: `R${order}` })));
    assert.equal(data.status, 'SUCCESS');

    await say(wxpay.v3.pay.transactions.jsapi.post({
      mchid, appid, out_trade_no: `${order}J`, description: '门诊缴费', notify_url: notices.url('/v3'), amount: { total: 100 }, payer: { openid: 'oUpF8uMuAJO_M2pxb1Q9zNjWeS6o' },
    }));
    await say(wxpay.v3.pay.transactions.outTradeNo.$out_trade_no$.close.post({ mchid }, { out_trade_no: `${order}J` }));
    ({ data } = await say(wxpay.v3.pay.transactions.outTradeNo.$out_trade_no$.get({ params: { mchid }, out_trade_no: `${order}J` })));
    assert.equal(data.trade_state, 'CLOSED');
  }

  return {
    name: 'wechatpay-axios-plugin, v3',
    get calls() { return calls; },
    async bills() {
      const wxpay = new Wechatpay({ ...common, ...modes.C });
      for (const [resource, params] of [[wxpay.v3.bill.tradebill, { bill_type: 'ALL' }], [wxpay.v3.bill.fundflowbill, { account_type: 'BASIC' }]]) {
        const { data } = await say(resource.get({ params: { bill_date: day, ...params } }));
        const { pathname, searchParams } = new URL(data.download_url);
        calls += 1;
        const file = await wxpay.client.v3.get(pathname, { params: Object.fromEntries(searchParams), responseType: 'arraybuffer', transformResponse: [] });
        assert.equal(createHash('sha1').update(file.data).digest('hex'), data.hash_value.toLowerCase());
        assert.match(Buffer.from(file.data).toString(), /`SDKV3C1|`RSDKV3C1/);
      }
    },
  };
};
