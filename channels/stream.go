package channels

import (
	"crypto/sha256"
	"hash"
	"io"
)

// Checked reads body and, at its end, asks check whether the SHA-256 of all of it
// is the one that was signed: its error comes instead of io.EOF, so that a reader
// of whole files refuses what was changed on its way.
func Checked(body io.ReadCloser, check func(sum []byte) error) io.ReadCloser {
	return &checked{ReadCloser: body, sum: sha256.New(), check: check}
}

type checked struct {
	io.ReadCloser
	sum   hash.Hash
	check func(sum []byte) error
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF {
		if wrong := c.check(c.sum.Sum(nil)); wrong != nil {
			return n, wrong
		}
	}
	return n, err
}
