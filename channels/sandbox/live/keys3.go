package live

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/clearward/clearward/channels/wechat"
)

// v3Mode is by what WeChat Pay signs towards a merchant number; "" is V2.
type v3Mode string

const (
	v3Certificate v3Mode = "CERTIFICATE" // the newest platform certificate (平台证书)
	v3PublicKey   v3Mode = "PUBLIC_KEY"  // its public key (微信支付公钥)
)

// publicKeyID names WeChat Pay's public key towards one merchant number.
func (m *merchant) publicKeyID() string { return wechat.PublicKeyPrefix + "01" + m.No + "2020010100" }

// openV3 opens WeChat Pay's public key and its platform certificates, of which there
// is at least one.
func (k *platformKeys) openV3() error {
	var err error
	if k.public, err = k.pair("channel/wechat_public", "Tenpay.com Public Key", k.root); err != nil {
		return err
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("channel/wechat_platform_%d", n)
		if _, err := os.Stat(filepath.Join(k.dir, name+"_cert.pem")); err != nil && n > 1 {
			return nil
		}
		if err := k.addPlatform(name); err != nil {
			return err
		}
	}
}

func (k *platformKeys) addPlatform(name string) error {
	p, err := k.pair(name, "Tenpay.com Sandbox", k.root)
	if err == nil {
		k.platform = append(k.platform, p)
	}
	return err
}

// rotate makes a new platform certificate, which signs from now on; the one before it
// stays on the list, and what it signed stays good.
func (k *platformKeys) rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.addPlatform(fmt.Sprintf("channel/wechat_platform_%d", len(k.platform)+1))
}

// listed are the platform certificates that are good: the newest and the one before.
func (k *platformKeys) listed() []*pair {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.platform[max(len(k.platform)-2, 0):])
}

// signs is the newest platform certificate with its serial number.
func (k *platformKeys) signs() (*pair, string) {
	list := k.listed()
	newest := list[len(list)-1]
	return newest, wechat.SerialNo(newest.cert)
}

// knows says whether a serial number is that of a platform certificate on the list.
func (k *platformKeys) knows(serial string) bool {
	return slices.ContainsFunc(k.listed(), func(p *pair) bool { return wechat.SerialNo(p.cert) == serial })
}
