// What a merchant does on a day, by the official SDKs as they come from the
// registry: only the address is another. Called by deploy/sdk.sh with the folder of
// the sandbox's keys and the addresses that it prints.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { clock } = require('./clock.js');
const { listen } = require('./notices.js');
const { alipay } = require('./alipay.js');
const { wechatV2 } = require('./wechat2.js');
const { wechatV3 } = require('./wechat3.js');

const [keys, text] = process.argv.slice(2);
const at = JSON.parse(text);
const key = (name) => fs.readFileSync(path.join(keys, name), 'utf8');

// admin calls the sandbox's own API: it plays the payer and moves the clock.
async function admin(method, where, body) {
  const answer = await fetch(at.admin + where, { method, body: body && JSON.stringify(body) });
  const said = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(said));
  return said;
}

async function main() {
  const noon = new Date(Date.UTC(2026, 8, 15, 4)); // 12:00 in Beijing
  await clock(admin, noon);
  const notices = await listen();
  const world = { at, key, admin, assert, notices, day: '2026-09-15' };
  const runs = [];
  for (const run of [alipay, wechatV2, wechatV3]) runs.push(await run(world));
  await clock(admin, new Date(noon.getTime() + 22 * 3600 * 1000)); // 10:00 of the next day
  for (const run of runs) await run.bills();
  for (const run of runs) console.log(`test-sdk: ${run.name}: ${run.calls} calls`);
}

// The channels keep their connections to the listener open: the process ends itself.
main().then(() => process.exit(0), (err) => {
  console.error(err);
  process.exit(1);
});
