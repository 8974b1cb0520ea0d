// Command clearward keeps a hospital's electronic payments in one balanced
// ledger and reconciles them with what HIS, the channels and the bank say.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/lived"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

const about = `The ledger and clearing engine behind a hospital's electronic payments.

setup, import, feed, recon, verify and key are run by whoever holds the data directory and the rights of its
database; nobody else gets that far. Decisions on cases are a person's: they need the person's key (--key or
CLEARWARD_KEY), and who proposes cannot approve.

Environment: CLEARWARD_DATA_DIR, CLEARWARD_DATABASE_URL, COCKROACH_BINARY, CLEARWARD_KAFKA_BROKERS,
CLEARWARD_KEY, CLEARWARD_CLOCK (a file: several processes share one clock that can be stepped),
CLEARWARD_LOG (debug, info, warn, error). Exit code 1: refused or failed; 2: wrongly asked.`

// commands is the command line.
type commands struct {
	Setup     setupCommand     `cmd:"" help:"Store regions, hospitals, merchant numbers, fees, bank accounts and opening balances. Again changes nothing."`
	Payouts   payoutCommands   `cmd:"" help:"Say what roles may pay out, how many approve, and when banks take transfers."`
	Factor    factorCommands   `cmd:"" help:"Give a person the second factor that approvals ask for, or end it."`
	Key       keyCommands      `cmd:"" help:"Make, list and revoke the keys of people and programs."`
	Import    importCommand    `cmd:"" help:"Post a business app's payments, refunds and reversals. Twice is once."`
	Feed      feedCommands     `cmd:"" help:"Send files of HIS, the channels and the bank; a file is taken whole or refused whole."`
	Recon     reconCommands    `cmd:"" help:"Reconcile a day."`
	Case      caseCommands     `cmd:"" help:"Work on cases (差异单)."`
	Verify    verifyCommand    `cmd:"" help:"Compute every balance and rule again from the postings."`
	Statement statementCommand `cmd:"" help:"Print every line of an account (明细账) with the balance after it."`
	Serve     serveCommand     `cmd:"" help:"Keep running: store what is fed, reconcile the day before at 11:30, prove the books every hour."`
	Up        upCommand        `cmd:"" help:"Serve beside a sandbox with three demo hospitals, kept in one data directory; prints what to try first."`
	Status    statusCommand    `cmd:"" help:"How the program is: who serves, clocks, jobs, what waits, what is paused, which days are open. Exit code 1 where somebody should look."`
	Call      callCommand      `cmd:"" help:"Make a call of the API of a process that serves, signed with a key."`
	App       appCommands      `cmd:"" help:"Act as a business app, through the SDK: pay, query, close, refund, download the bill file, hear notices."`
	Jobs      jobsCommands     `cmd:"" help:"List what is done by the clock; pause it, resume it, run it again."`
	Daily     dailyCommand     `cmd:"" help:"Write the standard bill file of a hospital's day (对账文件), with header, trailer and checksum."`
	Migrate   migrateCommand   `cmd:"" help:"Bring the tables up to date; every command does it too."`
	Demo      demoCommand      `cmd:"" help:"The sample day from its files, then a day of three hospitals lived with everything that goes wrong, in new data directories."`
	Day       dayCommand       `cmd:"" help:"Generate a day and reconcile it, from files to the published batch, with the time of each stage and the peak memory."`
	Sandbox   sandboxCommand   `cmd:"" help:"WeChat Pay V2, Alipay, HIS and the bank as servers on loopback, with books of its own, its bills, and faults on demand."`
	CheckHIS  checkHISCommand  `cmd:"" name:"check-his" help:"Go through the contract of channels/his with one open bill of a test HIS, and say which call and field breaks it."`
	Bench     benchCommand     `cmd:"" help:"Measure everything on this machine, beside reference points of the same run, and write bench.json."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// quit is what kong asks for after it has printed a help.
type quit int

// run carries out one command and returns the exit code.
func run(ctx context.Context, args []string, out, log io.Writer) (code int) {
	defer func() {
		if asked, ok := recover().(quit); ok {
			code = int(asked)
		}
	}()
	parser := kong.Must(&commands{}, kong.Name("clearward"), kong.Description(about), kong.Writers(out, log),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { panic(quit(code)) }))
	asked, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(log, "clearward: %v; `clearward --help` shows the commands\n", err)
		return 2
	}
	config, err := api.FromEnv(os.Getenv, log)
	if err == nil {
		err = runWith(asked, &program{ctx: ctx, config: config, out: out, log: log})
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(log, "clearward: "+string(usage))
		return 2
	case err != nil:
		fmt.Fprintln(log, "clearward: "+api.Explain(err))
		return 1
	}
	return 0
}

// runWith carries out a command by the clock that the environment names.
func runWith(asked *kong.Context, p *program) (err error) {
	if p.clock, err = local.ClockFromEnv(os.Getenv); err != nil {
		return err
	}
	if p.clock != nil {
		p.config.Now = p.clock.Now
	}
	return errors.Join(asked.Run(p), p.clock.Close())
}

// usageError says that a command was asked for in a way that cannot be meant.
type usageError string

// Error implements error.
func (u usageError) Error() string { return string(u) }

// program is what every command works with.
type program struct {
	ctx      context.Context
	config   api.Config
	clock    *local.Clock // nil: the machine's
	out, log io.Writer
}

// do opens the program, does the work of a command and closes it again.
func (p *program) do(work func(s *api.Server) error) error {
	s, err := api.Open(p.ctx, p.config)
	if err != nil {
		return err
	}
	return errors.Join(work(s), s.Close())
}

// meter shows on a terminal how far a work has come.
func (p *program) meter() *api.Meter { return api.NewMeter(p.log) }

// day is a business day as people write it.
type day ledger.Day

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *day) UnmarshalText(text []byte) error {
	parsed, err := ledger.ParseDay(string(text))
	*d = day(parsed)
	return err
}

type setupCommand struct {
	File string `arg:"" help:"YAML, for example samples/day/setup.yaml."`
}

// Run implements the command.
func (c *setupCommand) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		done, err := s.Setup(p.ctx, c.File)
		if err != nil {
			return err
		}
		changed := "nothing new"
		if done.Changed > 0 {
			changed = fmt.Sprintf("%d rows written", done.Changed)
		}
		fmt.Fprintf(p.out, "%d hospitals, %d merchant numbers, %d rates, %d bank accounts: %s\n",
			done.Hospitals, done.Merchants, done.Rates, done.Banks, changed)
		return nil
	})
}

type keyCommands struct {
	New struct {
		Person  string `help:"Whose key it is." xor:"who"`
		Service string `help:"Of a program, which may bring data and start runs, and decide nothing." xor:"who"`
		Role    string `help:"ACCOUNTANT (maker), FINANCE_HEAD (checker), CASHIER, TREASURER, INSURANCE, IT, OPERATOR, SUPPLIER, AUDITOR, ADMIN."`
	} `cmd:"" help:"Make a key. It is shown once; its hash is stored."`
	Deputy struct {
		Person string `required:"" help:"Who stands in."`
		For    string `required:"" help:"For whom, as on that person's key."`
		Role   string `required:"" help:"Of the person who is away."`
		Until  day    `required:"" help:"The last day; then the right ends by itself." placeholder:"DAY"`
	} `cmd:"" help:"Make a key by which somebody stands in for a person who is away."`
	List   struct{} `cmd:"" help:"List every key ever made, never the key itself."`
	Revoke struct {
		ID string `arg:"" help:"key_… as listed."`
	} `cmd:"" help:"End a key for ever."`
}

// Run implements the commands.
func (c *keyCommands) Run(p *program, asked *kong.Context) error {
	return p.do(func(s *api.Server) error {
		switch asked.Selected().Name {
		case "list":
			keys, err := auth.List(p.ctx, s.DB)
			api.WriteKeys(p.out, keys)
			return err
		case "revoke":
			return s.RevokeKey(p.ctx, c.Revoke.ID)
		}
		if asked.Selected().Name == "deputy" {
			key, err := s.NewDeputy(p.ctx, c.Deputy.Person, auth.Role(c.Deputy.Role), c.Deputy.For, ledger.Day(c.Deputy.Until))
			return p.showKey(key, err)
		}
		name, role := c.New.Person, auth.Role(c.New.Role)
		if c.New.Service != "" {
			if role != "" && role != auth.Service {
				return usageError("a program has the role SERVICE and no other: leave --role out")
			}
			name, role = c.New.Service, auth.Service
		}
		key, err := s.NewKey(p.ctx, name, role)
		return p.showKey(key, err)
	})
}

func (p *program) showKey(key string, err error) error {
	if err != nil {
		return err
	}
	fmt.Fprintln(p.out, key)
	fmt.Fprintln(p.log, "This key is shown once. Keep it, and give it by --key or CLEARWARD_KEY.")
	return nil
}

type payoutCommands struct {
	Rules struct {
		File string `arg:"" help:"YAML with limits, bands and windows."`
	} `cmd:"" help:"Store rules of payouts; each holds from its day on. Again changes nothing."`
}

// Run implements the command.
func (c *payoutCommands) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		rules, added, err := s.SetPayoutRules(p.ctx, c.Rules.File)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%d limits, %d bands, %d windows: %d new\n", len(rules.Limits), len(rules.Bands), len(rules.Windows), added)
		return nil
	})
}

type factorCommands struct {
	Enrol struct {
		Person string `arg:"" help:"Who, as on the key."`
	} `cmd:"" help:"Make a second factor; the URL for an authenticator app is shown once."`
	Revoke struct {
		Person string `arg:"" help:"Who, as on the key."`
	} `cmd:"" help:"End the second factor of a person, who may then be given another."`
}

// Run implements the commands.
func (c *factorCommands) Run(p *program, asked *kong.Context) error {
	return p.do(func(s *api.Server) error {
		if strings.HasPrefix(asked.Command(), "factor revoke") {
			return s.RevokeFactor(p.ctx, c.Revoke.Person)
		}
		address, err := s.EnrolFactor(p.ctx, c.Enrol.Person)
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out, address)
		fmt.Fprintln(p.log, "This is shown once. Put it into an authenticator app.")
		return nil
	})
}

type importCommand struct {
	File string `arg:"" help:"platform.csv, for example samples/day/platform.csv."`
}

// Run implements the command.
func (c *importCommand) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		meter := p.meter()
		done, err := s.Import(p.ctx, c.File, meter.Of("import"))
		meter.Clear()
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%d rows: %d payments, %d refunds, %d reversals posted; %d failed payments stored; %d were there before\n",
			done.Rows, done.Payments, done.Refunds, done.Reversals, done.Failed, done.Replayed)
		return nil
	})
}

type feedFlags struct {
	Files []string `arg:"" name:"file" help:"Files, each taken whole or refused whole."`
	Day   day      `help:"The business day, where the file does not say it (a bill without rows)." placeholder:"DAY"`
}

type feedCommands struct {
	Channel struct {
		feedFlags
		Merchant string `help:"The merchant number, where the file does not say it (fund bills, bills without rows)." placeholder:"NO"`
	} `cmd:"" help:"Trade bills and fund bills: WeChat (plain or gzip), Alipay (zip). What a file is, is told by its content."`
	HIS struct {
		feedFlags
		Hospital string `help:"The hospital that it must be of." placeholder:"CODE"`
		Rows     *int   `help:"How many rows it has. Needed with --sum where neither a last line #rows,pay_fen,refund_fen nor FILE.manifest.json says it."`
		Sum      *int64 `help:"Payments less refunds, in fen." placeholder:"FEN"`
	} `cmd:"" name:"his" help:"Charge details of HIS (CSV or JSON lines)."`
	Bank struct{ feedFlags } `cmd:"" help:"Bank statements (camt.053)."`
	Dead struct {
		Replay []string `help:"Send these back to where they came from." placeholder:"ID" xor:"which"`
		All    bool     `help:"Send back all that were not sent back before." xor:"which"`
	} `cmd:"" help:"List messages that could not be stored, with the reason, and send them back."`
}

// Run implements the commands.
func (c *feedCommands) Run(p *program, asked *kong.Context) error {
	kind, flags, o := api.FeedKind(asked.Selected().Name), c.Channel.feedFlags, feed.Options{MerchantNo: c.Channel.Merchant}
	switch kind {
	case "dead":
		return c.dead(p)
	case api.FeedBank:
		flags = c.Bank.feedFlags
	case api.FeedHIS:
		flags, o.Hospital = c.HIS.feedFlags, c.HIS.Hospital
		if (c.HIS.Rows == nil) != (c.HIS.Sum == nil) {
			return usageError("--rows and --sum go together")
		}
		if o.Counted = c.HIS.Rows != nil; o.Counted {
			if len(flags.Files) > 1 {
				return usageError("--rows and --sum are of one file: feed it alone")
			}
			o.Rows, o.Sum = *c.HIS.Rows, ledger.Money(*c.HIS.Sum)
		}
	}
	o.Day = ledger.Day(flags.Day)
	files := make([]api.FileToFeed, len(flags.Files))
	for i, path := range flags.Files {
		files[i] = api.FileToFeed{Path: path, Options: o}
	}
	return p.do(func(s *api.Server) error {
		meter := p.meter()
		verdicts, err := s.Feed(p.ctx, kind, files, meter.Count)
		meter.Clear()
		if err != nil {
			return err
		}
		return api.WriteVerdicts(p.out, verdicts)
	})
}

func (c *feedCommands) dead(p *program) error {
	return p.do(func(s *api.Server) error {
		var letters []feed.Letter
		var err error
		switch {
		case c.Dead.All || len(c.Dead.Replay) > 0:
			letters, err = s.Replay(p.ctx, c.Dead.Replay...)
			fmt.Fprintf(p.out, "%d sent back\n", len(letters))
		default:
			letters, err = s.DeadLetters(p.ctx)
			fmt.Fprintf(p.out, "%d dead letters\n", len(letters))
		}
		api.WriteLetters(p.out, letters)
		return err
	})
}

type reconFlags struct {
	Day    day    `required:"" help:"The business day." placeholder:"DAY"`
	Format string `enum:"table,json,csv" default:"table" help:"table for people, json with counts, sums and the proof, csv the plain list."`
	Lang   string `enum:"zh,en" default:"zh" help:"The language of the table: zh or en."`
}

type reconCommands struct {
	Do   struct{ reconFlags } `cmd:"" name:"run" help:"Reconcile what is complete and publish it. On the same inputs it changes nothing."`
	Show struct{ reconFlags } `cmd:"" help:"Show what stands of the day, without running."`
}

// Run implements the commands.
func (c *reconCommands) Run(p *program, asked *kong.Context) error {
	return p.do(func(s *api.Server) error {
		flags := c.Show.reconFlags
		var found *recon.Day
		var err error
		if asked.Selected().Name == "run" {
			flags = c.Do.reconFlags
			meter := p.meter()
			found, err = s.Reconcile(p.ctx, ledger.Day(flags.Day), meter.Count)
			meter.Clear()
		} else {
			found, err = s.Engine.Load(p.ctx, ledger.Day(flags.Day))
		}
		if err != nil {
			return err
		}
		if err := found.Write(p.out, flags.Format, flags.Lang); err != nil || flags.Format != recon.FormatTable {
			return err
		}
		all, err := s.Jobs(p.ctx)
		if err == nil {
			api.WriteHeldBack(p.out, all, flags.Lang)
		}
		return err
	})
}

type caseFlags struct {
	Key  string `env:"CLEARWARD_KEY" help:"The key of whoever asks." placeholder:"ck_…"`
	Lang string `enum:"zh,en" default:"zh" help:"The language: zh or en."`
}

type caseCommands struct {
	caseFlags
	List struct {
		Day day  `help:"Of one business day." placeholder:"DAY"`
		All bool `help:"Closed ones too."`
	} `cmd:"" help:"List open cases."`
	Show struct {
		ID string `arg:"" help:"The case."`
	} `cmd:"" help:"One case with its suspense, what may settle it, and its log."`
	Propose struct {
		ID         string `arg:"" help:"The case."`
		Resolution string `arg:"" help:"As clearward case show lists them."`
		Reason     string `help:"Why, in words."`
		Detail     string `help:"What the resolution needs beside it: the owner, the settlement."`
	} `cmd:"" help:"Propose a resolution (经办)."`
	Approve struct {
		ID     string `arg:"" help:"The case."`
		Reason string `help:"A remark."`
	} `cmd:"" help:"Approve what another person proposed (复核); its journal is posted."`
	Reject struct {
		ID     string `arg:"" help:"The case."`
		Reason string `help:"Why, in words."`
	} `cmd:"" help:"Reject what another person proposed."`
}

// Run implements the commands.
func (c *caseCommands) Run(p *program, asked *kong.Context) error {
	d := recon.Decision{Act: asked.Selected().Name}
	switch d.Act {
	case "propose":
		d.CaseID, d.Resolution, d.Reason, d.Detail = c.Propose.ID, c.Propose.Resolution, c.Propose.Reason, c.Propose.Detail
	case "approve":
		d.CaseID, d.Reason = c.Approve.ID, c.Approve.Reason
	case "reject":
		d.CaseID, d.Reason = c.Reject.ID, c.Reject.Reason
	}
	return p.do(func(s *api.Server) error {
		id := c.Show.ID
		if d.Act == "list" {
			cases, err := s.Cases(p.ctx, c.Key, ledger.Day(c.List.Day), c.List.All)
			if err == nil {
				api.WriteCases(p.out, cases, c.Lang)
			}
			return err
		}
		if d.Act != "show" {
			decided, err := s.Decide(p.ctx, c.Key, d)
			if err != nil {
				return err
			}
			id = decided.ID
		}
		file, err := s.CaseFile(p.ctx, c.Key, id)
		if err == nil {
			api.WriteCase(p.out, file, c.Lang)
		}
		return err
	})
}

type verifyCommand struct {
	Balances bool   `help:"Print the trial balance too (科目余额表): code, debit, credit in yuan."`
	Lang     string `enum:"zh,en" default:"zh" help:"The language: zh or en."`
}

// Run implements the command.
func (c *verifyCommand) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		if c.Balances {
			all, err := s.TrialBalance(p.ctx)
			if err != nil {
				return err
			}
			api.WriteBalances(p.out, all, c.Lang)
		}
		found, err := s.Verify(p.ctx)
		if err != nil {
			return err
		}
		api.WriteFindings(p.out, found, c.Lang)
		if len(found) > 0 {
			return fmt.Errorf("%w: the books break %d rules; stop working on them and find out why", api.ErrRefused, len(found))
		}
		return nil
	})
}

type statementCommand struct {
	Account string `arg:"" help:"The code of the account, as clearward verify --balances prints it."`
	From    day    `default:"2000-01-01" help:"The first day of booking." placeholder:"DAY"`
	To      day    `default:"2999-12-31" help:"The last day of booking." placeholder:"DAY"`
	Lang    string `enum:"zh,en" default:"zh" help:"The language: zh or en."`
}

// Run implements the command.
func (c *statementCommand) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		return s.Statement(p.ctx, p.out, c.Account, ledger.Day(c.From), ledger.Day(c.To), c.Lang)
	})
}

type serveCommand struct {
	Listen  string `default:"127.0.0.1:8350" help:"Where to answer; other than loopback with TLS only." placeholder:"HOST:PORT"`
	TLSCert string `help:"The certificate, in PEM." placeholder:"FILE" type:"existingfile"`
	TLSKey  string `help:"Its key, in PEM." placeholder:"FILE" type:"existingfile"`
}

// Run implements the command.
func (c *serveCommand) Run(p *program) error {
	answering()
	return api.Serve(p.ctx, p.config, api.ServeOptions{Listen: c.Listen, TLSCert: c.TLSCert, TLSKey: c.TLSKey}, p.out)
}

// answering sets how often a process that answers calls collects its garbage. GOGC in
// the environment comes first.
func answering() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(api.ServingGC)
	}
}

type upCommand struct {
	Listen string `default:"127.0.0.1:8350" help:"Where to answer, on loopback." placeholder:"HOST:PORT"`
}

// Run implements the command.
func (c *upCommand) Run(p *program) error {
	answering()
	return api.Up(p.ctx, p.config, c.Listen, p.out, nil)
}

type statusCommand struct {
	Lang string `enum:"zh,en" default:"zh" help:"The language: zh or en."`
}

// Run implements the command.
func (c *statusCommand) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		st, err := s.Status(p.ctx)
		if err != nil {
			return err
		}
		api.WriteStatus(p.out, &st, c.Lang)
		if !st.Well() {
			return api.ErrUnwell
		}
		return nil
	})
}

type sandboxCommand struct {
	Dir    string `required:"" help:"Where books, keys and certificates are kept; a kill loses nothing." placeholder:"DIR"`
	Config string `required:"" help:"YAML with the merchant numbers." placeholder:"FILE"`
}

// Help implements kong.HelpProvider.
func (c *sandboxCommand) Help() string { return live.Help }

// Run implements the command.
func (c *sandboxCommand) Run(p *program) error {
	config, err := live.ReadConfig(c.Config)
	if err != nil {
		return err
	}
	config.Dir, config.Now, config.SetClock = c.Dir, p.clock.Now, p.clock.Set
	s, err := live.Start(config)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "The keys are in %s/keys. The servers answer at:\n", c.Dir)
	if err := json.NewEncoder(p.out).Encode(s.Addresses); err != nil {
		return errors.Join(err, s.Close())
	}
	<-p.ctx.Done()
	return s.Close()
}

type checkHISCommand struct {
	URL      string `arg:"" help:"Where the HIS answers: https, or http on loopback."`
	Hospital string `required:"" help:"The code of the hospital." placeholder:"CODE"`
	Secret   string `required:"" help:"The secret that it shares with us, by reference." placeholder:"file:PATH"`
	Format   string `enum:"JSON,XML" default:"JSON" help:"JSON or XML."`
	Bill     string `required:"" help:"An open bill of its test environment: it is booked and voided." placeholder:"NO"`
	Fen      int64  `required:"" help:"The amount of the bill." placeholder:"FEN"`
}

// Run implements the command.
func (c *checkHISCommand) Run(p *program) error {
	secret, err := channels.Secret(c.Secret)
	if err != nil {
		return err
	}
	client, err := his.New(his.Config{Hospital: c.Hospital, BaseURL: c.URL, Format: his.Format(c.Format), Secret: secret, Now: p.clock.Now})
	if err != nil {
		return err
	}
	steps, broken := 0, 0
	err = his.Check(p.ctx, client, c.Bill, ledger.Money(c.Fen), func(f his.Finding) {
		steps++
		verdict := "ok"
		if f.Field != "" {
			broken++
			verdict = fmt.Sprintf("BROKEN: %s is %q, must be %q", f.Field, f.Got, f.Want)
		}
		fmt.Fprintf(p.out, "%-22s %-45s %s\n", f.Call, f.Step, verdict)
	})
	if err == nil && broken > 0 {
		err = fmt.Errorf("%w: %d of %d steps break the contract", api.ErrRefused, broken, steps)
	}
	return err
}

type callCommand struct {
	Method  string `arg:"" help:"Service and call, clearward.ledger.v1.LedgerService/GetBalance."`
	Request string `arg:"" optional:"" default:"{}" help:"The request as JSON."`
	URL     string `default:"http://127.0.0.1:8350" help:"Where the process serves." placeholder:"URL"`
	Key     string `required:"" env:"CLEARWARD_KEY" help:"The key of whoever calls." placeholder:"ck_…"`
}

// Run implements the command.
func (c *callCommand) Run(p *program) error {
	return api.Call(p.ctx, c.URL, c.Key, c.Method, c.Request, p.config.Now, p.out)
}

type appCommands struct {
	URL string `default:"http://127.0.0.1:8350" help:"Where the process serves." placeholder:"URL"`
	Key string `required:"" env:"CLEARWARD_KEY" help:"The key of the app." placeholder:"ck_…"`
	Pay struct {
		Request string `arg:"" help:"clearward.pay.v1.CreatePaymentRequest as JSON."`
	} `cmd:"" help:"Collect for a bill."`
	Query  appOrder `cmd:"" help:"Ask the channel about a payment now."`
	Await  appOrder `cmd:"" help:"Follow a payment until it is final."`
	Close  appOrder `cmd:"" help:"End a payment that nobody has paid; a code payment is reversed."`
	Refund struct {
		Request string `arg:"" help:"clearward.pay.v1.CreateRefundRequest as JSON."`
	} `cmd:"" help:"Give money back by the original route."`
	Daily struct {
		Hospital string `arg:"" help:"The hospital."`
		Day      day    `arg:"" help:"The business day."`
	} `cmd:"" help:"Download the standard bill file of a day and check its checksum."`
	Hear struct {
		Listen string `default:"127.0.0.1:8351" help:"Where the platform tells the app (notify_url)." placeholder:"HOST:PORT"`
	} `cmd:"" help:"Print the notices of the platform, each checked."`
}

type appOrder struct {
	Hospital string `arg:"" help:"The hospital."`
	Order    string `arg:"" help:"The number of the payment."`
}

// Run implements the commands.
func (c *appCommands) Run(p *program, asked *kong.Context) error {
	act := api.AppAct{URL: c.URL, Key: c.Key, Do: asked.Selected().Name, Request: c.Pay.Request + c.Refund.Request, Listen: c.Hear.Listen}
	for _, order := range []appOrder{c.Query, c.Await, c.Close} {
		act.Hospital, act.Order = act.Hospital+order.Hospital, act.Order+order.Order
	}
	if act.Do == "daily" {
		act.Hospital, act.Day = c.Daily.Hospital, ledger.Day(c.Daily.Day).String()
	}
	return act.Act(p.ctx, p.config.Now, p.out)
}

type jobsCommands struct {
	Key     string   `env:"CLEARWARD_KEY" help:"The key of whoever pauses, resumes or runs." placeholder:"ck_…"`
	Lang    string   `enum:"zh,en" default:"zh" help:"The language: zh or en."`
	List    struct{} `cmd:"" help:"List jobs with when they run next and what their last run came to."`
	History struct {
		Name string `arg:"" help:"The job."`
	} `cmd:"" help:"List the newest runs of a job."`
	Pause struct {
		Name string `arg:"" help:"The job."`
	} `cmd:"" help:"Keep a job from running."`
	Resume struct {
		Name string `arg:"" help:"The job."`
	} `cmd:"" help:"End a pause; what was due meanwhile runs once."`
	Again struct {
		Name string `arg:"" help:"The job."`
	} `cmd:"" name:"run" help:"Make a job due now."`
}

// Run implements the commands.
func (c *jobsCommands) Run(p *program, asked *kong.Context) error {
	return p.do(func(s *api.Server) error {
		switch act := asked.Selected().Name; act {
		case "list":
			all, err := s.Jobs(p.ctx)
			if err == nil {
				api.WriteJobs(p.out, all, c.Lang)
			}
			return err
		case "history":
			runs, err := s.JobHistory(p.ctx, c.History.Name)
			if err == nil {
				api.WriteJobRuns(p.out, runs, c.Lang)
			}
			return err
		default:
			return s.ManageJob(p.ctx, c.Key, act, c.Pause.Name+c.Resume.Name+c.Again.Name)
		}
	})
}

type dailyCommand struct {
	Hospital string `arg:"" help:"The code of the hospital."`
	Day      day    `required:"" help:"The business day." placeholder:"DAY"`
	Out      string `help:"The file to write; standard output where left out." placeholder:"FILE" type:"path"`
}

// Run implements the command.
func (c *dailyCommand) Run(p *program) error {
	return p.do(func(s *api.Server) error {
		if c.Out == "" {
			return s.DailyFile(p.ctx, c.Hospital, ledger.Day(c.Day), p.out)
		}
		return s.DailyFileAt(p.ctx, c.Hospital, ledger.Day(c.Day), c.Out)
	})
}

type migrateCommand struct{}

// Run implements the command.
func (c *migrateCommand) Run(p *program) error {
	return p.do(func(*api.Server) error {
		fmt.Fprintln(p.out, "The tables are up to date.")
		return nil
	})
}

type demoCommand struct {
	Payments int    `default:"5000" help:"Payments of the lived day, up to 1,000,000."`
	Seed     uint64 `default:"1" help:"The same seed makes the same patients and the same faults."`
	Kills    int    `help:"How often the server is killed (-9) while patients pay." placeholder:"N"`
	Stay     bool   `help:"Leave everything running at the end, and print how to call it."`
	Keep     bool   `help:"Keep the data directory, and say where it is."`
	Lang     string `enum:"zh,en" default:"zh" help:"The language: zh or en."`
}

// Run implements the command.
func (c *demoCommand) Run(p *program) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	if c.Payments < 1 || c.Payments > 1_000_000 {
		return usageError("--payments is 1 to 1,000,000")
	}
	if err := api.SampleDemo(p.ctx, p.config, api.DemoOptions{Keep: c.Keep, Lang: c.Lang}, p.out, p.meter()); err != nil {
		return err
	}
	fmt.Fprintln(p.out)
	return lived.Live(p.ctx, lived.Options{Config: p.config, Binary: binary, Payments: c.Payments, Seed: c.Seed, Kills: c.Kills, Stay: c.Stay, Keep: c.Keep,
		Lang: c.Lang, Out: p.out, Meter: p.meter()})
}

type dayCommand struct {
	Payments  int    `default:"200000" help:"Payments of the day."`
	Hospitals int    `default:"3" help:"Hospitals."`
	Seed      uint64 `default:"1" help:"The same seed makes the same day."`
	Restate   bool   `help:"Then hand in one bill again with two other rows, and run the day again: version 2."`
	Keep      bool   `help:"Keep the data directory, and say where it is."`
	Lang      string `enum:"zh,en" default:"zh" help:"The language: zh or en."`
}

// Run implements the command.
func (c *dayCommand) Run(p *program) error {
	o := api.DemoOptions{Payments: c.Payments, Hospitals: c.Hospitals, Seed: c.Seed, Restate: c.Restate, Keep: c.Keep, Lang: c.Lang}
	return api.GeneratedDemo(p.ctx, p.config, o, p.out, p.meter())
}

type benchCommand struct {
	Quick  bool   `help:"Small sizes and one round, under 50 s."`
	Rounds int    `help:"How often the small ones are measured, in turn (three, with --quick one)." placeholder:"N"`
	Out    string `help:"Where the figures are written as JSON." placeholder:"FILE"`
}

// Run implements the command.
func (c *benchCommand) Run(p *program) error {
	return api.Bench(p.ctx, api.BenchOptions{Quick: c.Quick, Rounds: c.Rounds, Out: c.Out, Log: p.out})
}
