// alipay-sdk (npm, official) through its option gateway, in key and in certificate
// mode, and with encrypted contents. Of an encrypted answer it can verify no
// signature: it looks for the braces of an object, and what is signed is a text.
'use strict';

const { AlipaySdk } = require('alipay-sdk');

exports.alipay = async ({ at, key, admin, assert, notices, day }) => {
  const no = '20880000000000020156';
  const common = { appId: '2021000000000001', privateKey: key(`${no}/merchant_key.pem`), keyType: 'PKCS8', gateway: `${at.alipay}/gateway.do` };
  const certificates = {
    appCertContent: key(`${no}/merchant_cert.pem`), alipayPublicCertContent: key('channel/alipay_cert.pem'), alipayRootCertContent: key('channel/root_cert.pem'),
  };
  let calls = 0;
  const pay = (order, amount, code) => ({
    out_trade_no: order, scene: 'bar_code', auth_code: code, subject: '门诊缴费', total_amount: amount, product_code: 'FACE_TO_FACE_PAYMENT',
  });

  for (const [mode, config] of [['K', { alipayPublicKey: key('channel/alipay_pub.pem') }], ['C', certificates]]) {
    const sdk = new AlipaySdk({ ...common, ...config, encryptKey: key(`${no}/content.key`) });
    const call = async (method, bizContent, needEncrypt = false) => {
      calls += 1;
      return sdk.exec(method, { bizContent, needEncrypt, notifyUrl: notices.url('/alipay') }, { validateSign: !needEncrypt });
    };
    const order = `SDK${mode}1`;
    const code = `28000000${mode === 'K' ? '01' : '02'}00000001`;

    let a = await call('alipay.trade.pay', pay(order, '123.45', code));
    assert.equal(a.code, '10000', JSON.stringify(a));
    assert.equal(a.receiptAmount, '123.45');
    const told = await notices.next('/alipay', (n) => new URLSearchParams(n.body).get('out_trade_no') === order);
    const form = Object.fromEntries(new URLSearchParams(told.body));
    assert.ok(sdk.checkNotifySignV2(form), told.body);
    assert.ok(!sdk.checkNotifySignV2({ ...form, total_amount: '0.01' }));
    assert.equal(form.trade_status, 'TRADE_SUCCESS');
    a = await call('alipay.trade.pay', pay(order, '123.45', code), true);
    assert.equal(a.subCode, 'ACQ.TRADE_HAS_SUCCESS', JSON.stringify(a));
    a = await call('alipay.trade.query', { out_trade_no: order });
    assert.equal(a.tradeStatus, 'TRADE_SUCCESS');
    a = await call('alipay.trade.refund', { out_trade_no: order, out_request_no: `R${order}`, refund_amount: '23.45' });
    assert.equal(a.fundChange, 'Y', JSON.stringify(a));
    a = await call('alipay.trade.fastpay.refund.query', { out_trade_no: order, out_request_no: `R${order}` }, true);
    assert.equal(a.refundStatus, 'REFUND_SUCCESS', JSON.stringify(a));

    a = await call('alipay.trade.precreate', { out_trade_no: `${order}Q`, subject: '门诊缴费', total_amount: '1.00' });
    await admin('POST', '/pay', { code: a.qrCode });
    a = await call('alipay.trade.query', { out_trade_no: `${order}Q` });
    assert.equal(a.tradeStatus, 'TRADE_SUCCESS');

    const page = { out_trade_no: `${order}P`, subject: '门诊缴费', total_amount: '2.00', product_code: 'FAST_INSTANT_TRADE_PAY' };
    a = await call('alipay.trade.query', { out_trade_no: `${order}P` });
    assert.equal(a.subCode, 'ACQ.TRADE_NOT_EXIST');
    await admin('POST', '/pay', { code: sdk.pageExecute('alipay.trade.page.pay', 'GET', { bizContent: page }) });
    const app = { out_trade_no: `${order}A`, subject: '门诊缴费', total_amount: '3.00', product_code: 'QUICK_MSECURITY_PAY' };
    await admin('POST', '/pay', { code: sdk.sdkExecute('alipay.trade.app.pay', { bizContent: app }) });
    for (const one of ['P', 'A']) {
      a = await call('alipay.trade.query', { out_trade_no: order + one });
      assert.equal(a.tradeStatus, 'TRADE_SUCCESS');
    }

    a = await call('alipay.trade.pay', pay(`${order}W`, '1000.01', code));
    assert.equal(a.code, '10003', JSON.stringify(a));
    a = await call('alipay.trade.cancel', { out_trade_no: `${order}W` });
    assert.equal(a.action, 'close', JSON.stringify(a));
    a = await call('alipay.data.bill.balance.query', {});
    assert.equal(a.code, '10000', JSON.stringify(a));
  }

  return {
    name: 'alipay-sdk',
    get calls() { return calls; },
    async bills() {
      const sdk = new AlipaySdk({ ...common, alipayPublicKey: key('channel/alipay_pub.pem') });
      for (const kind of ['trade', 'signcustomer']) {
        calls += 1;
        const a = await sdk.exec('alipay.data.dataservice.bill.downloadurl.query', { bizContent: { bill_type: kind, bill_date: day } }, { validateSign: true });
        assert.equal(a.code, '10000', JSON.stringify(a));
        const file = Buffer.from(await (await fetch(a.billDownloadUrl)).arrayBuffer());
        assert.equal(file.subarray(0, 2).toString(), 'PK');
      }
    },
  };
};
