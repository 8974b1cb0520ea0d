// The SDKs date what they send by the process's clock. It is set to the sandbox's,
// so that a day can pass.
'use strict';

const Machine = Date;
let shift = 0;

global.Date = class extends Machine {
  constructor(...given) {
    if (given.length === 0) super(Machine.now() + shift);
    else super(...given);
  }

  static now() { return Machine.now() + shift; }
};

exports.clock = async (admin, to) => {
  await admin('POST', '/clock', { at: to.toISOString() });
  shift = to.getTime() - Machine.now();
};
