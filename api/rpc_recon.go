package api

import (
	"context"
	"errors"
	"io"
	"os"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/ledger"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/recon"
)

// reconService is reconciliation for programs and consoles.
type reconService struct{ s *Server }

// RunDay implements the call.
func (r reconService) RunDay(ctx context.Context, q *reconv1.RunDayRequest) (*reconv1.RunDayResponse, error) {
	day, err := dayField("day", q.GetDay(), true)
	if err != nil {
		return nil, err
	}
	found, err := r.s.Reconcile(ctx, day, nil)
	if err != nil {
		return nil, err
	}
	return &reconv1.RunDayResponse{Day: dayMessage(found)}, nil
}

// GetDay implements the call.
func (r reconService) GetDay(ctx context.Context, q *reconv1.GetDayRequest) (*reconv1.GetDayResponse, error) {
	day, err := dayField("day", q.GetDay(), true)
	if err != nil {
		return nil, err
	}
	found, err := r.s.Engine.Load(ctx, day)
	if err != nil {
		return nil, err
	}
	return &reconv1.GetDayResponse{Day: dayMessage(found)}, nil
}

func dayMessage(d *recon.Day) *reconv1.Day {
	out := &reconv1.Day{Day: d.Day.String()}
	for _, s := range d.Slices {
		out.Slices = append(out.Slices, &reconv1.Slice{Hospital: s.Hospital, Channel: s.Channel, MerchantNo: s.MerchantNo, Pair: string(s.Pair),
			Version: int32(s.Version), Waiting: s.Waiting})
	}
	for _, i := range d.Items {
		out.Items = append(out.Items, &reconv1.Item{Code: string(i.Code), Polarity: i.Polarity(), Hospital: i.Hospital, Channel: i.Channel,
			MerchantNo: i.MerchantNo, OrderNo: i.OrderNo, RefundNo: i.RefundNo, BankRef: i.BankRef, HisFen: fenOf(i.HIS), PlatformFen: fenOf(i.Platform),
			ChannelFen: fenOf(i.ChannelFen), AmountFen: int64(i.Amount), CaseId: i.CaseID})
	}
	return out
}

func fenOf(m *ledger.Money) *int64 {
	if m == nil {
		return nil
	}
	fen := int64(*m)
	return &fen
}

// ListCases implements the call.
func (r reconService) ListCases(ctx context.Context, q *reconv1.ListCasesRequest) (*reconv1.ListCasesResponse, error) {
	day, err := dayField("day", q.GetDay(), false)
	if err != nil {
		return nil, err
	}
	cases, err := r.s.Engine.Cases(ctx, day, q.GetAll())
	if err != nil {
		return nil, err
	}
	out := &reconv1.ListCasesResponse{}
	for i := range cases {
		out.Cases = append(out.Cases, caseMessage(&cases[i]))
	}
	return out, nil
}

func caseMessage(c *recon.Case) *reconv1.Case {
	return &reconv1.Case{Id: c.ID, Day: c.Day.String(), State: string(c.State), Resolution: c.Resolution, Reason: c.Reason, Maker: c.Maker,
		Checker: c.Checker, OpenedAt: timestamppb.New(c.OpenedAt), ChangedAt: timestamppb.New(c.ChangedAt),
		Item: &reconv1.Item{Code: string(c.Code), Polarity: c.Code.Polarity(c.Amount), Hospital: c.Hospital, Channel: c.Channel,
			MerchantNo: c.MerchantNo, OrderNo: c.OrderNo, RefundNo: c.RefundNo, BankRef: c.BankRef, HisFen: fenOf(c.HIS),
			PlatformFen: fenOf(c.Platform), ChannelFen: fenOf(c.ChannelFen), AmountFen: int64(c.Amount), CaseId: c.ID}}
}

// GetCase implements the call.
func (r reconService) GetCase(ctx context.Context, q *reconv1.GetCaseRequest) (*reconv1.GetCaseResponse, error) {
	file, err := r.file(ctx, q.GetId())
	if err != nil {
		return nil, err
	}
	return &reconv1.GetCaseResponse{File: file}, nil
}

func (r reconService) file(ctx context.Context, id string) (*reconv1.CaseFile, error) {
	f, err := r.s.Engine.CaseFile(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &reconv1.CaseFile{Case: caseMessage(&f.Case), May: f.May}
	for _, s := range f.Suspense {
		out.Suspense = append(out.Suspense, &reconv1.Suspense{Account: s.Account.Code(), Ref: s.Ref, AmountFen: int64(s.Fen)})
	}
	for _, l := range f.Log {
		out.Log = append(out.Log, &reconv1.LogLine{At: timestamppb.New(l.At), Who: l.Who, Act: l.Act, Detail: l.Detail})
	}
	return out, nil
}

// decide acts on a case in the name of whoever calls.
func (r reconService) decide(ctx context.Context, d recon.Decision) (*reconv1.CaseFile, error) {
	d.Who = caller(ctx).Name
	if _, err := r.s.Engine.Decide(ctx, d); err != nil {
		return nil, err
	}
	return r.file(ctx, d.CaseID)
}

// ProposeResolution implements the call.
func (r reconService) ProposeResolution(ctx context.Context, q *reconv1.ProposeResolutionRequest) (*reconv1.ProposeResolutionResponse, error) {
	file, err := r.decide(ctx, recon.Decision{Act: "propose", CaseID: q.GetCaseId(), Resolution: q.GetResolution(), Reason: q.GetReason(), Detail: q.GetDetail()})
	if err != nil {
		return nil, err
	}
	return &reconv1.ProposeResolutionResponse{File: file}, nil
}

// ApproveResolution implements the call.
func (r reconService) ApproveResolution(ctx context.Context, q *reconv1.ApproveResolutionRequest) (*reconv1.ApproveResolutionResponse, error) {
	file, err := r.decide(ctx, recon.Decision{Act: "approve", CaseID: q.GetCaseId(), Reason: q.GetReason()})
	if err != nil {
		return nil, err
	}
	return &reconv1.ApproveResolutionResponse{File: file}, nil
}

// RejectResolution implements the call.
func (r reconService) RejectResolution(ctx context.Context, q *reconv1.RejectResolutionRequest) (*reconv1.RejectResolutionResponse, error) {
	file, err := r.decide(ctx, recon.Decision{Act: "reject", CaseID: q.GetCaseId(), Reason: q.GetReason()})
	if err != nil {
		return nil, err
	}
	return &reconv1.RejectResolutionResponse{File: file}, nil
}

// dailyChunk is how many bytes of a daily file one message holds.
const dailyChunk = 64 << 10

// DownloadDaily implements the call.
func (r reconService) DownloadDaily(ctx context.Context, q *reconv1.DownloadDailyRequest, stream *connect.ServerStream[reconv1.DownloadDailyResponse]) error {
	day, err := dayField("day", q.GetDay(), true)
	if err = errors.Join(err, r.s.maySee(ctx, q.GetHospital())); err != nil {
		return err
	}
	return r.s.dailyFile(ctx, q.GetHospital(), day, func(file *os.File) error {
		buffer := make([]byte, dailyChunk)
		for {
			n, err := file.Read(buffer)
			if n > 0 {
				if err := stream.Send(&reconv1.DownloadDailyResponse{Chunk: buffer[:n]}); err != nil {
					return err
				}
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}
