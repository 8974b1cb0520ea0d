// Where the channels send their notices: each is taken, and kept for whoever waits.
'use strict';

const http = require('node:http');

const taken = { '/alipay': 'success', '/v2': '<xml><return_code>SUCCESS</return_code></xml>', '/v3': '' };

// isProbe tells a notice by which WeChat Pay sees whether signatures are verified: its
// signature is wrong, and it is to be refused.
const isProbe = (n) => (n.headers['wechatpay-signature'] || '').startsWith('WECHATPAY/SIGNTEST/');
exports.isProbe = isProbe;

exports.listen = async () => {
  const came = [];
  const waiting = [];
  const server = http.createServer((request, answer) => {
    const parts = []; // a character may be cut in two between them
    request.on('data', (part) => { parts.push(part); });
    request.on('end', () => {
      answer.writeHead(isProbe(request) ? 401 : 200).end(taken[request.url]);
      came.push({ at: request.url, headers: request.headers, body: Buffer.concat(parts).toString() });
      waiting.splice(0).forEach((wake) => wake());
    });
  });
  await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
  return {
    url: (at) => `http://127.0.0.1:${server.address().port}${at}`,
    // next is the first notice that came to a path and speaks of an order.
    async next(at, speaksOf) {
      for (;;) {
        const i = came.findIndex((n) => n.at === at && speaksOf(n));
        if (i >= 0) return came.splice(i, 1)[0];
        await new Promise((wake) => { waiting.push(wake); });
      }
    },
  };
};
