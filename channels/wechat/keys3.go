package wechat

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// How often the platform certificates are fetched: at least every twelve hours
// (spec/channels.md C.2), and for an unknown number at most once a minute, so that
// forged notices cannot make us ask without end.
const (
	rotateEvery = 12 * time.Hour
	askAgain    = time.Minute
)

// ErrSerial is wrapped where a message is signed with a key that is not WeChat Pay's.
var ErrSerial = errors.New("signed with a key that is not known")

// platformKeys are the keys that WeChat Pay signs with: certificates that rotate, or
// its public key, or both while a merchant moves from one to the other.
type platformKeys struct {
	publicID string // public-key mode
	public   *rsa.PublicKey
	now      func() time.Time
	fetch    func(context.Context) ([]*x509.Certificate, error)

	mu             sync.Mutex
	certificates   map[string]*x509.Certificate
	fetched, asked time.Time
}

// find returns the key of a serial number, fetching the certificates where they are
// old or the number is new. While they cannot be fetched those at hand stay good
// until they expire.
func (p *platformKeys) find(ctx context.Context, serial string) (*rsa.PublicKey, error) {
	if strings.HasPrefix(serial, PublicKeyPrefix) {
		if p.public != nil && serial == p.publicID {
			return p.public, nil
		}
		return nil, fmt.Errorf("%w: public key %q", ErrSerial, serial)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if _, known := p.certificates[serial]; (!known || now.Sub(p.fetched) >= rotateEvery) && now.Sub(p.asked) >= askAgain {
		p.asked = now
		list, err := p.fetch(ctx)
		if err == nil {
			p.take(list, now)
		} else if !known {
			return nil, fmt.Errorf("%w: certificate %q: %w", ErrSerial, serial, err)
		}
	}
	return valid(p.certificates[serial], serial, now)
}

func (p *platformKeys) take(list []*x509.Certificate, now time.Time) {
	p.certificates, p.fetched = map[string]*x509.Certificate{}, now
	for _, c := range list {
		p.certificates[SerialNo(c)] = c
	}
}

// valid is the key of a certificate that is in force.
func valid(c *x509.Certificate, serial string, now time.Time) (*rsa.PublicKey, error) {
	if c == nil {
		return nil, fmt.Errorf("%w: certificate %q", ErrSerial, serial)
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return nil, fmt.Errorf("%w: certificate %s is not in force", ErrSerial, serial)
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: certificate %s is not RSA", ErrSerial, serial)
	}
	return key, nil
}
