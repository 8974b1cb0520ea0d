package live

// Help is what `clearward sandbox --help` says beside its options.
const Help = `The config names merchant numbers and addresses:

    merchants:
      - {no: "1900000109", channel: WECHAT, apps: [wx1], fee_rate: "0.0060", bank_account: "755", retained_fen: 100000}
      - {no: "20880000000000020156", channel: ALIPAY, apps: ["2021000000000001"], fee_rate: "0.0060", bank_account: "755", tails: amount}
    his:
      - {hospital: H1, format: XML}   # at http://HIS/H1, with the secret keys/his-H1.key
    listen: {wechat: "127.0.0.1:8361", alipay: "127.0.0.1:8362", admin: "127.0.0.1:8360"}

The admin address takes JSON and plays everybody else:

    POST /pay      {"merchant","order"} or {"code"}: the payer pays
    POST /refund   {"merchant","order","refund","fen"}: given back in the channel's own portal
    POST /faults   {"do","api","merchant","order","other","commit","seconds","fen","code","times"}: what goes wrong next
    GET  /faults   those that wait
    POST /abnormal {"merchant","refund","to"}: on WeChat Pay's merchant platform an
                   abnormal refund is paid to CARD (the payer's other) or MERCHANT
    POST /notices  every waiting notice goes out now
    GET  /keys     of WeChat Pay v3: serial_no and public_key_id of each merchant number
    POST /certificates  WeChat Pay's platform certificate is followed by a new one
    POST /clock    {"at"}: the clock jumps (CLEARWARD_CLOCK)
    GET  /orders?merchant=&day=   orders paid that day
    GET  /books?merchant=&day=    sums of the day, and what arrives at the bank

    POST /his/bills   {"hospital","bill_no","fen","biz_type"} or {"bills":[…]}: bills that wait to be paid
    POST /his/close   {"hospital","bill_no"}: its number was given to somebody else
    POST /his/serve   {"hospital","bill_no","fen"}: so much cannot be given back any more
    POST /his/cash    {"hospital","bill_no","fen","biz_type","tender"}: paid at the window, CASH or POS
    POST /his/faults  {"do","api","hospital","bill_no","order_no","refund_no","commit","fen","code","times","until"}
    GET  /his/books?hospital=&day=, /his/details?hospital=&day=   what HIS has booked

do, of a call: DELAY DROP HTTP_500 GARBAGE BAD_SIGN ERROR PASSWORD; of a refund:
REFUND_LATE REFUND_ABNORMAL REFUND_CLOSED; of a notice: NOTICE_LOST NOTICE_TWICE
NOTICE_LATE NOTICE_FORGED NOTICE_FOREIGN; of a payment's row in the bills:
BILL_MISSING BILL_AMOUNT BILL_FEE BILL_MIDNIGHT BILL_RESTATED BILL_FOREIGN
BILL_ELSEWHERE (with the number "other"); of HIS those of a call but PASSWORD (ERROR
with code AGAIN: ask later), and of its rows
ROW_MISSING ROW_AMOUNT ROW_TWICE ROW_NEXT_DAY ROW_CASH ROW_UNKEYED ROW_FOREIGN.

With tails: amount (or code) the last two digits in fen (or of the payment code) ask
for one: 02 the password after 10 s, 03 never, 04 a system error though paid, 05 and
not paid, 06 the connection breaks after it was paid, 07 not enough money, 08 the
answer is wrongly signed, 09 the notice comes twice, of a refund 10 it takes 60 s,
11 it cannot be paid out.`
