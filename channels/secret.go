package channels

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrSecret is wrapped where a secret cannot be had. It never shows one.
var ErrSecret = errors.New("secret not available")

// Secret reads what a reference names: "file:/etc/clearward/wx.pem" or
// "env:WX_KEY". References are stored and shown; what they name is neither.
func Secret(reference string) (string, error) {
	kind, name, _ := strings.Cut(reference, ":")
	switch kind {
	case "file":
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrSecret, reference, err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	case "env":
		text, ok := os.LookupEnv(name)
		if !ok || text == "" {
			return "", fmt.Errorf("%w: %s is not set", ErrSecret, reference)
		}
		return text, nil
	}
	return "", fmt.Errorf("%w: %q is neither file:PATH nor env:NAME", ErrSecret, kind)
}
