package features_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cucumber/godog"
	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

const (
	sampleDir            = "../api/testdata/day"
	sampleDay ledger.Day = 20260915
)

// document is one of the files that a hospital's day consists of.
type document struct {
	name string
	kind api.FeedKind
	told feed.Options
}

// documents are the sample day's, by the names that people use.
var documents = map[string]document{
	"微信交易账单":  {"wechat_tradebill_ALL_20260915.csv", api.FeedChannel, feed.Options{}},
	"微信资金账单":  {"wechat_fundflow_BASIC_20260915.csv", api.FeedChannel, feed.Options{}},
	"支付宝业务明细": {"alipay_20880000000000020156_20260915_trade.csv.zip", api.FeedChannel, feed.Options{}},
	"支付宝账务明细": {"alipay_20880000000000020156_20260915_signcustomer.csv.zip", api.FeedChannel, feed.Options{}},
	"HIS明细":   {"his.csv", api.FeedHIS, feed.Options{Counted: true, Rows: 50, Sum: 1604899}},
	"银行对账单":   {"bank_camt053_20260916.xml", api.FeedBank, feed.Options{}},
	"业务数据":    {"platform.csv", "", feed.Options{}},
	"主数据":     {"setup.yaml", "", feed.Options{}},
}

// fed are the names of those that are fed, always in the same order.
func fed(but ...string) []string {
	var names []string
	for name, d := range documents {
		if d.kind != "" && !slices.Contains(but, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

const (
	quoted   = `"((?:[^"\\]|\\.)*)"`
	docName  = `(微信交易账单|微信资金账单|支付宝业务明细|支付宝账务明细|HIS明细|银行对账单|业务数据|主数据)`
	yuanText = `(-?[0-9.]+) 元`
)

func (h *house) fileSteps(sc *godog.ScenarioContext) {
	sc.Step(`^公立医院`+quoted+`已经建档开账$`, h.openedHospital)
	sc.Step(`^建档$`, h.setUp)
	sc.Step(`^建档没有改动$`, func() error { return equal("rows changed", h.setup.Changed, 0) })
	sc.Step(`^没有任何医院建档$`, func(ctx context.Context) error { return h.count(ctx, `SELECT code FROM hospitals`, 0) })
	sc.Step(`^`+docName+`里的`+quoted+`(全?)被改成`+quoted+`$`, h.spoil)
	sc.Step(`^`+docName+`里末尾多出一行`+quoted+`$`, h.addLine)
	sc.Step(`^`+docName+`已更正$`, h.restore)
	sc.Step(`^导入样例日的业务数据$`, h.importSample)
	sc.Step(`^样例日的业务数据已经导入$`, h.importSample)
	sc.Step(`^样例日的业务数据在新账簿里入账$`, func(ctx context.Context) error {
		return errors.Join(h.setUp(ctx), h.importSample(ctx))
	})
	sc.Step(`^共 (\d+) 行，入账收款 (\d+) 笔、退款 (\d+) 笔、撤销 (\d+) 笔，另有失败支付 (\d+) 笔不入账$`, func(rows, pays, refunds, reversals, failed int) error {
		return equal("import", h.imported, clearing.ImportSummary{Rows: rows, Payments: pays, Refunds: refunds, Reversals: reversals, Failed: failed})
	})
	sc.Step(`^共 (\d+) 行，全部是以前记过的，没有新的入账$`, func(rows int) error {
		return equal("import", h.imported, clearing.ImportSummary{Rows: rows, Replayed: rows})
	})
	sc.Step(`^样例日的各方文件都已收到$`, func(ctx context.Context) error { return h.receive(ctx, fed()...) })
	sc.Step(`^除`+docName+`以外，样例日的各方文件都已收到$`, func(ctx context.Context, but string) error { return h.receive(ctx, fed(but)...) })
	sc.Step(`^样例日的各方文件打乱次序各收到两遍$`, h.receiveTwice)
	sc.Step(`^收到`+docName+`$`, func(ctx context.Context, name string) error { return h.receive(ctx, name) })
	sc.Step(`^收到没有说明行数和合计的HIS明细$`, func(ctx context.Context) error {
		return h.send(ctx, api.FeedHIS, feed.Options{}, h.file("his.csv"))
	})
	sc.Step(`^`+docName+`被完整收下，共 (\d+) 行$`, h.taken)
	sc.Step(`^`+docName+`截断在任何一行都被整份拒收$`, h.cutAnywhere)
	sc.Step(`^下列改动都被整份拒收:$`, h.everyChange)
	sc.Step(`^没有一行被收下$`, h.nothingTaken)
	sc.Step(`^被拒绝，提示包含`+quoted+`$`, h.says)
	sc.Step(`^提示包含`+quoted+`$`, h.says)
	sc.Step(`^渠道主题里来了一条解析不了的消息`+quoted+`$`, h.poison)
	sc.Step(`^死信里有 (\d+) 条，原因是`+quoted+`，不显示其内容$`, h.deadLetters)
	sc.Step(`^重放全部死信$`, h.replay)
	sc.Step(`^重放了 (\d+) 条$`, func(n int) error { return equal("sent back", len(h.letters), n) })
}

func (h *house) openedHospital(ctx context.Context, name string) error {
	if err := h.setUp(ctx); err != nil {
		return err
	}
	names, err := h.query(ctx, `SELECT name FROM hospitals WHERE ownership = 'PUBLIC'`)
	if err != nil {
		return err
	}
	return equal("hospitals", strings.Join(names, " "), name)
}

func (h *house) setUp(ctx context.Context) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	h.setup, err = s.Setup(ctx, h.file("setup.yaml"))
	return h.acted(err)
}

func (h *house) count(ctx context.Context, sql string, want int) error {
	rows, err := h.query(ctx, sql)
	if err != nil {
		return err
	}
	return equal(sql, len(rows), want)
}

// spoil changes a file of the scenario: the first place, or all of them.
func (h *house) spoil(name, old, all, new string) error {
	old, new = strings.ReplaceAll(old, `\"`, `"`), strings.ReplaceAll(new, `\"`, `"`)
	text, err := os.ReadFile(h.file(documents[name].name))
	if err != nil {
		return err
	}
	n := 1
	if all != "" {
		n = -1
	}
	changed := bytes.Replace(text, []byte(old), []byte(new), n)
	if bytes.Equal(changed, text) {
		return fmt.Errorf("%s has no %s", name, old)
	}
	return os.WriteFile(h.file(documents[name].name), changed, 0o600)
}

func (h *house) addLine(name, line string) error {
	text, err := os.ReadFile(h.file(documents[name].name))
	if err != nil {
		return err
	}
	return os.WriteFile(h.file(documents[name].name), append(text, line+"\n"...), 0o600)
}

func (h *house) restore(name string) error {
	text, err := os.ReadFile(filepath.Join(sampleDir, documents[name].name))
	if err != nil {
		return err
	}
	return os.WriteFile(h.file(documents[name].name), text, 0o600)
}

func (h *house) importSample(ctx context.Context) error {
	return h.importFile(ctx, h.file("platform.csv"))
}

func (h *house) importFile(ctx context.Context, path string) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	h.imported, err = s.Import(ctx, path, nil)
	return h.acted(err)
}

// receive feeds documents one after the other.
func (h *house) receive(ctx context.Context, names ...string) error {
	for _, name := range names {
		d := documents[name]
		if err := h.send(ctx, d.kind, d.told, h.file(d.name)); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) receiveTwice(ctx context.Context) error {
	names := append(fed(), fed()...)
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	if err := h.receive(ctx, names...); err != nil {
		return fmt.Errorf("in the order %v: %w", names, err)
	}
	return nil
}

func (h *house) send(ctx context.Context, kind api.FeedKind, o feed.Options, path string) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	verdicts, err := s.Feed(ctx, kind, []api.FileToFeed{{Path: path, Options: o}}, nil)
	if err != nil {
		return fmt.Errorf("feed %s: %w", path, err)
	}
	h.verdict = verdicts[0]
	return h.acted(h.verdict.Refused)
}

func (h *house) taken(ctx context.Context, name string, rows int) error {
	if err := h.listen(); err != nil {
		return err
	}
	f := h.verdict.File
	return errors.Join(equal("file", f.Name, documents[name].name), equal("state", f.State, recon.FileVerified), equal("rows", int(f.Rows), rows))
}

// cutAnywhere cuts the file after each of its lines, and in the middle of each.
func (h *house) cutAnywhere(ctx context.Context, name string) error {
	d := documents[name]
	text, err := os.ReadFile(h.file(d.name))
	if err != nil {
		return err
	}
	text = bytes.TrimRight(text, "\r\n")
	path := h.file("cut-" + d.name)
	for at, before := 0, 0; ; before = at {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return nil
		}
		at += next + 1
		for _, end := range []int{(before + at) / 2, at} {
			if err := os.WriteFile(path, text[:end], 0o600); err != nil {
				return err
			}
			if err := h.send(ctx, d.kind, d.told, path); err != nil {
				return err
			}
			if h.refused == nil {
				return fmt.Errorf("%s was taken with %d of %d bytes", name, end, len(text))
			}
			h.heard = true
		}
	}
}

// everyChange spoils one file at a time and looks at what is said of it.
func (h *house) everyChange(ctx context.Context, table *godog.Table) error {
	for _, row := range table.Rows[1:] {
		cell := func(i int) string { return row.Cells[i].Value }
		name, about := cell(0), cell(4)
		if err := h.spoil(name, cell(1), "", cell(2)); err != nil {
			return err
		}
		if err := h.receive(ctx, name); err != nil {
			return err
		}
		if err := h.says(ctx, cell(3)); err != nil {
			return fmt.Errorf("%s: %w", about, err)
		}
		var bad *channels.FileError
		if !errors.As(h.refused, &bad) {
			return fmt.Errorf("%s: refused without a place: %w", about, h.refused)
		}
		if err := h.restore(name); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) nothingTaken(ctx context.Context) error {
	for _, sql := range []string{`SELECT name FROM feed_deliveries`, `SELECT state FROM feed_files`, `SELECT order_no FROM bill_lines`, `SELECT bill_no FROM his_lines`, `SELECT ref FROM bank_lines`} {
		if err := h.count(ctx, sql, 0); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) poison(ctx context.Context, text string) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	w := &kafka.Writer{Addr: kafka.TCP(s.Kafka.Brokers...), Topic: s.Kafka.Prefix + feed.TopicChannel, RequiredAcks: kafka.RequireAll}
	return errors.Join(w.WriteMessages(ctx, kafka.Message{Key: []byte("1900000109|20260915"), Value: []byte(text)}), w.Close(), s.CaughtUp(ctx))
}

func (h *house) deadLetters(ctx context.Context, n int, reason string) error {
	letters, err := h.server.DeadLetters(ctx)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	api.WriteLetters(&list, letters)
	if got := strings.Count(list.String(), reason); len(letters) != n || got != n || strings.Contains(list.String(), "138") && strings.Contains(list.String(), "张三") {
		return fmt.Errorf("%d letters:\n%s", len(letters), list.String())
	}
	return nil
}

func (h *house) replay(ctx context.Context) (err error) {
	h.letters, err = h.server.Replay(ctx)
	return h.acted(err)
}

// generate makes days of another hospital.
func (h *house) generate(c sandbox.Config) (err error) {
	c.Seed, c.Hospitals, c.Payments = 7, 1, 80
	if c.Faults == nil {
		c.Faults = map[string]int{}
	}
	h.plan, err = sandbox.Generate(c, h.file("other"), nil)
	return err
}

// load sets the generated hospital up, books and feeds one of its days, but for
// what leave says is not there.
func (h *house) load(ctx context.Context, n int, leave ...string) error {
	h.dayPlan = h.plan.Days[n]
	for _, f := range h.dayPlan.Files {
		path := h.file(filepath.Join("other", f.Path))
		var err error
		switch {
		case slices.Contains(leave, f.Source):
		case f.Source == sandbox.SourceSetup:
			err = errors.Join(os.Rename(path, h.file("setup.yaml")), h.setUp(ctx))
		case f.Source == sandbox.SourcePlatform:
			err = h.importFile(ctx, path)
		case f.Source == sandbox.SourceHIS:
			err = h.send(ctx, api.FeedHIS, feed.Options{}, path)
		case f.Source == sandbox.SourceBank:
			err = h.send(ctx, api.FeedBank, feed.Options{}, path)
		default:
			err = h.send(ctx, api.FeedChannel, feed.Options{MerchantNo: f.MerchantNo, Day: h.dayPlan.Day}, path)
		}
		if err = errors.Join(err, h.listen()); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}

// tamper tries what a person with the program's own database rights could try.
func (h *house) tamper(ctx context.Context) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	err = s.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE postings SET amount = amount + 1`)
		return err
	})
	return h.acted(err)
}
