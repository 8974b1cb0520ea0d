package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/clearward/clearward/api/sdk"
)

// ErrCall is wrapped where a process that serves has refused a call.
var ErrCall = errors.New("the call was refused")

// callTimeout is how long a call made by hand may take: a run of a large day is one.
const callTimeout = 10 * time.Minute

// Call makes one call of the API with plain JSON, signed by the key, and prints
// the answer: method is a service and its call, "clearward.ledger.v1.LedgerService/GetBalance".
func Call(ctx context.Context, url, key, method, request string, now func() time.Time, out io.Writer) error {
	client, err := sdk.Client(key, now)
	if err != nil {
		return err
	}
	client.Timeout = callTimeout
	if !json.Valid([]byte(request)) {
		return ErrField.Because("request", "it is no JSON: %s", request)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(url, "/")+"/"+strings.TrimPrefix(method, "/"), strings.NewReader(request))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(post)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var told struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	switch {
	case answer.StatusCode == http.StatusOK:
	case json.Unmarshal(text, &told) == nil && told.Message != "":
		return fmt.Errorf("%w: %s: %s", ErrCall, told.Code, told.Message)
	default:
		return fmt.Errorf("%w: %s: %s", ErrCall, answer.Status, bytes.TrimSpace(text))
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, text, "", "  "); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	fmt.Fprintln(out, pretty.String())
	return nil
}
