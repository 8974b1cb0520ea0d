package sdk_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/deploy/local"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// A business app pays at a window, looks again, and gives the money back.
func ExampleApp() {
	err := beside(func(ctx context.Context, url, key string) error {
		app, err := sdk.NewApp(url, key, nil)
		if err != nil {
			return err
		}
		paid, err := app.Pay(ctx, &payv1.CreatePaymentRequest{IdempotencyKey: "window-1-0001", Hospital: "H1", Channel: "WECHAT", BillNo: "B0001",
			BizType: "OUTPATIENT", Terminal: "WINDOW1", Way: "CODE", AmountFen: 4500, AuthCode: "130000000000000001", ClientIp: "127.0.0.1"})
		if err != nil {
			return err
		}
		fmt.Println(paid.GetStatus(), paid.GetTell())
		asked, err := app.Query(ctx, "H1", paid.GetOrderNo())
		if err != nil {
			return err
		}
		fmt.Println(asked.GetStatus(), asked.GetRefundableFen())
		back, err := app.Refund(ctx, &payv1.CreateRefundRequest{IdempotencyKey: "window-1-0001-back", Hospital: "H1", OrderNo: paid.GetOrderNo(), AmountFen: 4500,
			Maker: "王收费", Cause: "项目退费", HisCancelled: true})
		if err != nil {
			return err
		}
		fmt.Println(back.GetStatus(), back.GetAmountFen())
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// SUCCESS 支付成功。
	// SUCCESS 4500
	// SUCCESS 4500
}

// The bill file of a day comes with its checksum, which is checked.
func ExampleApp_Daily() {
	err := beside(func(ctx context.Context, url, key string) error {
		app, err := sdk.NewApp(url, key, nil)
		if err != nil {
			return err
		}
		return app.Daily(ctx, "H1", "2026-01-01", os.Stdout)
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// #CLEARWARD-DAILY,1,H1,2026-01-01
	// #SUMS,0,0,0,0,0,0,0,0,0,0,0
	// #payments,paid_fen,refunds,returned_fen,reversals,reversed_fen,settled_fen,taken_back_fen,fees_fen,fees_returned_fen,net_fen
	// kind,status,channel,merchant_no,order_no,refund_no,channel_trade_no,his_bill_no,biz_type,terminal,amount_fen,settle_fen,fee_fen,occurred_at,channel_success_at
	// #END,0,0,0,0,0,0,0,0,0,0,0,0
	// #SHA256,ea9d05a0bbda748cf6415dfbb991e9f8ee85d5a6a55fdc529a46ee869657e7ea
}

// beside does something beside a process that serves, with a sandbox outside.
func beside(do func(ctx context.Context, url, key string) error) error {
	dir, err := os.MkdirTemp("", "clearward-sdk")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is in the folder for temporary files
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var failed error
	err = api.Up(ctx, api.Config{Local: local.Config{DataDir: filepath.Join(dir, "data")}}, "127.0.0.1:0", io.Discard, func(url string, keys map[string]string) {
		go func() {
			failed = do(ctx, url, keys["HTAPP"])
			stop()
		}()
	})
	if failed != nil {
		return failed
	}
	return err
}
