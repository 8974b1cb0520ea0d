package api

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
)

// pemFile writes a block of PEM and returns the reference to it.
func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

// Scenario 37: a sandbox is never told of real money, nor a bank unencrypted.
func TestTheBankOfAnAccountIsReachedBySecretsAndInItsEnvironment(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := pemFile(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), pemFile(t, "PUBLIC KEY", public)
	b := &banks{s: &Server{now: noon}, open: map[clearing.BankLink]channels.BankGateway{}}
	good := `{"customer":"C1","key_id":"k1","private_key":"` + ours + `","bank_key.b1":"` + theirs + `","environment":"SANDBOX"}`
	for name, c := range map[string]struct {
		url, settings string
		want          error
	}{
		"sandbox":                     {"http://127.0.0.1:9", good, nil},
		"production on loopback":      {"https://127.0.0.1:9", `{}`, ErrEnvironment},
		"production unencrypted":      {"http://bank.example", `{"environment":"PRODUCTION"}`, ErrEnvironment},
		"sandbox at a bank's address": {"https://bank.example", good, ErrEnvironment},
		"no key":                      {"https://bank.example", `null`, channels.ErrSecret},
		"a key that is not there":     {"https://bank.example", `{"private_key":"file:/nowhere"}`, channels.ErrSecret},
		"settings that are no object": {"https://bank.example", `[]`, ErrNotConnected},
	} {
		link := clearing.BankLink{Account: "8801", URL: c.url, Settings: c.settings}
		is, err := b.of(link)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if again, _ := b.of(link); again != is {
			t.Errorf("%s: another connection the second time", name)
		}
		if err := checkBanks(&clearing.Wiring{Banks: []clearing.BankLink{link}}); errors.Is(c.want, ErrEnvironment) != errors.Is(err, ErrEnvironment) {
			t.Errorf("%s: serving says %v", name, err)
		}
	}
}
