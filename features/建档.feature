# language: zh-CN
功能: 建档与结算模式
  医院、商户号、费率、收款账户由主数据定下；违反规定的档案一行也不留下。

  场景: 公立医院用归集代付（模式B）被拒
    假如 主数据里的"merchant_no: \"1900000109\", kind: DIRECT, settle_mode: A"被改成"merchant_no: \"1900000109\", kind: DIRECT, settle_mode: B"
    当 建档
    那么 被拒绝，提示包含"settle_mode: B is refused: hospital H1 is public"
    而且 没有任何医院建档

  场景: 收款账户不是医院本户名，被拒
    假如 主数据里的"name: 海天示范医院, bank"被改成"name: 某某科技公司, bank"
    当 建档
    那么 被拒绝，提示包含"must be the hospital's own name"
    而且 没有任何医院建档

  场景: 重复建档不改变任何东西
    假如 公立医院"海天示范医院"已经建档开账
    当 建档
    那么 建档没有改动
