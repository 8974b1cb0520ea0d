package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/clearward/clearward/ledger"
	errorv1 "github.com/clearward/clearward/proto/clearward/error/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	"github.com/clearward/clearward/proto/clearward/payout/v1/payoutv1connect"
)

// keyedByRow are the writes whose key is written in one transaction with what they
// make, by the package that makes it. The answer to every other write is kept by the
// doorkeeper.
var keyedByRow = map[string]bool{
	payv1connect.PaymentServiceCreatePaymentProcedure:      true,
	payv1connect.PaymentServiceAcknowledgePaymentProcedure: true,
	payv1connect.RefundServiceCreateRefundProcedure:        true,
	payv1connect.RefundServiceApplyAbnormalRefundProcedure: true,
	payoutv1connect.PayoutServiceRequestPayoutProcedure:    true,
	payoutv1connect.PayoutServiceProposePayeeProcedure:     true,
}

// keyField is what every request that changes something carries, itself or in what
// it holds.
const keyField protoreflect.Name = "idempotency_key"

// longestKey is the characters that a key may have.
const longestKey = 128

// reads says whether a call may be made again without a key: it changes nothing, or
// only asks the outside what has become of something.
func reads(method protoreflect.MethodDescriptor) bool {
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

// once carries a write out once for each key of the caller: the same request again
// gets the first answer, be it a refusal, and another one under the same key is a
// conflict before anything is done.
func (d doorkeeper) once(ctx context.Context, request connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	procedure := request.Spec().Procedure
	method, ok := request.Spec().Schema.(protoreflect.MethodDescriptor)
	message, isProto := request.Any().(proto.Message)
	switch {
	case !ok || !isProto:
		return nil, fmt.Errorf("it is not described what %s is asked", procedure)
	case reads(method):
		return next(ctx, request)
	}
	field := method.Input().Fields().ByName(keyField)
	if field == nil { // what the request holds carries it
		return next(ctx, request)
	}
	key := message.ProtoReflect().Get(field).String()
	if key == "" || len(key) > longestKey {
		return nil, ErrField.Because(string(keyField), "must be 1 to %d characters of your own, the same whenever you ask again", longestKey)
	}
	if keyedByRow[procedure] {
		return next(ctx, request)
	}
	canon, err := canonOf(method, message)
	if err != nil {
		return nil, err
	}
	k := &keptCall{d: d, procedure: procedure, method: method, who: caller(ctx).Name, key: key, canon: canon}
	return k.make(ctx, request, next)
}

// keptCall is a write whose answer the door keeps under its key.
type keptCall struct {
	d         doorkeeper
	procedure string
	method    protoreflect.MethodDescriptor
	who, key  string
	canon     []byte
}

// make makes the call, or gives what was answered to it before.
//
// The key is written before the call, its answer after it, each in a transaction of
// its own, since a call may ask the outside between them. Where the process dies in
// between, the call is made again by its repeat, and what it had done stands: every
// such call acts by the state it finds. A repeat keeps no refusal, as the first one
// may be at work yet.
func (k *keptCall) make(ctx context.Context, request connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	begun, err := ledger.Submit(ctx, k.d.s.committer, beginCall, ledger.Request{Scope: "call:" + k.who, Key: k.key, Form: 1, Canon: k.canon}, struct{}{})
	if err = errors.Join(err, begun.Err); err != nil {
		return nil, err
	}
	if begun.Replayed {
		if answer, found, err := k.before(ctx); found {
			return answer, err
		}
	}
	answer, failed := next(ctx, request)
	ctx = context.WithoutCancel(ctx) // what is done is done, whoever still listens
	out, final, err := k.outcome(answer, failed)
	switch {
	case err != nil:
		return nil, err
	case !final && begun.Replayed: // its twin may have got through meanwhile
		if answer, found, err := k.before(ctx); found {
			return answer, err
		}
		return nil, failed
	case !final:
		return nil, failed
	}
	kept, err := k.answer(ctx, begun.Replayed, out)
	if err != nil || kept.Replayed {
		return k.replay(kept, err)
	}
	return answer, failed
}

// before is what was answered to the call before, if anything was.
func (k *keptCall) before(ctx context.Context) (answer connect.AnyResponse, found bool, err error) {
	kept, err := k.answer(ctx, true, ledger.Outcome{Err: errUnanswered})
	if err == nil && errors.Is(kept.Err, errUnanswered) {
		return nil, false, nil
	}
	answer, err = k.replay(kept, err)
	return answer, true, err
}

// answer writes what was answered, or returns what was written before.
func (k *keptCall) answer(ctx context.Context, again bool, out ledger.Outcome) (ledger.Outcome, error) {
	request := ledger.Request{Scope: "answer:" + k.who, Key: k.key, Form: 1, Canon: k.canon, Internal: again}
	return ledger.Submit(ctx, k.d.s.committer, answerCall, request, out)
}

// beginCall writes the key of a call with what was asked, before it is done.
var beginCall = &ledger.Verb[struct{}]{Name: "call.begin", Run: func(_ context.Context, _ *ledger.Batch, cmds []struct{}) []ledger.Outcome {
	return make([]ledger.Outcome, len(cmds))
}}

// answerCall writes what was answered to it.
var answerCall = &ledger.Verb[ledger.Outcome]{Name: "call.answer", Run: func(_ context.Context, _ *ledger.Batch, cmds []ledger.Outcome) []ledger.Outcome {
	return cmds
}}

// errUnanswered says that a call was begun and no answer to it is kept.
var errUnanswered = ledger.Refusal{Code: "UNANSWERED"}

// canonOf is what must be equal when a key is used again: the call and its fields.
// The code of a second factor is none of it: it is another whenever one asks.
func canonOf(method protoreflect.MethodDescriptor, message proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	delete(fields, string(keyField))
	delete(fields, "code")
	if fields["call"], err = json.Marshal(method.FullName()); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// keptRefusal is a refusal as it is kept: the error of the protocol that was told.
type keptRefusal struct {
	Code   connect.Code    `json:"code"`
	Text   string          `json:"text"`
	Detail json.RawMessage `json:"detail"`
}

// outcome is the end of the call as it is kept, and whether it is one. A refusal by a
// rule is; a wrong code of a second factor, and whatever else went
// wrong, may go better the next time.
func (k *keptCall) outcome(answer connect.AnyResponse, failed error) (out ledger.Outcome, final bool, err error) {
	if failed == nil {
		text, err := protojson.Marshal(answer.Any().(proto.Message))
		return ledger.Outcome{Body: string(text)}, true, err
	}
	var rule ledger.Refusal
	if !errors.As(failed, &rule) {
		return out, false, nil
	}
	told, detail := k.d.refuse(k.procedure, failed)
	text, err := protojson.Marshal(detail)
	if err != nil {
		return out, false, err
	}
	body, err := json.Marshal(keptRefusal{told.Code(), told.Message(), text})
	return ledger.Outcome{Err: rule, Body: string(body)}, true, err
}

// replay gives what was answered before.
func (k *keptCall) replay(kept ledger.Outcome, err error) (connect.AnyResponse, error) {
	switch {
	case err != nil:
		return nil, err
	case kept.Err == nil:
		answer := dynamicpb.NewMessage(k.method.Output())
		return connect.NewResponse(answer), protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal([]byte(kept.Body), answer)
	case kept.Body == "":
		return nil, kept.Err
	}
	var was keptRefusal
	detail := &errorv1.Refusal{}
	if err := errors.Join(json.Unmarshal([]byte(kept.Body), &was), protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(was.Detail, detail)); err != nil {
		return nil, fmt.Errorf("read what was answered under key %s: %w", k.key, err)
	}
	return nil, withDetail(was.Code, was.Text, detail)
}
