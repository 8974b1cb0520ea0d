package livebank

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/clearward/clearward/channels/bank"
)

// openKeys reads the keys of both sides, or makes them: customer_key.pem is for the
// customer's program, bank_pub.pem is how it knows the bank.
func (s *Server) openKeys() error {
	dir := filepath.Join(s.cfg.Dir, "keys", "bank")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("sandbox bank: %w", err)
	}
	customer, err := openKey(filepath.Join(dir, "customer"))
	if err != nil {
		return err
	}
	s.customer = &customer.PublicKey
	s.key, err = openKey(filepath.Join(dir, "bank"))
	return err
}

// openKey reads name_key.pem or makes it, with name_pub.pem beside it. The keys
// are good for nothing else than this sandbox.
func openKey(name string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(name + "_key.pem")
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(name)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox bank key: %w", err)
	}
	key, err := bank.PrivateKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("sandbox bank key %s: %w", name, err)
	}
	return key, nil
}

func makeKey(name string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return key, errors.Join(
		os.WriteFile(name+"_pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600),
		os.WriteFile(name+"_key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
