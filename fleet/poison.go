package fleet

import "strings"

// A Poisoned is a request that was given up, as JSON in the stream NAME-poison of the broker, under the
// subject NAME.poison.HOST, in which HOST is as [Fleet.Publish] has it.
type Poisoned struct {
	Request    Request `json:"request"`
	Deliveries int     `json:"deliveries"`
	Error      string  `json:"error"` // or its first 4,096 bytes
	// Exact is the [encoding/gob] of a request that has bytes that are not UTF-8, which JSON
	// changes. Request has its method and the first 4,096 bytes of its URL then, for people to read.
	Exact []byte `json:"exact,omitempty"`
}

const mostToRead = 4096

func newPoisoned(r Request, deliveries int, reason error) (p Poisoned, err error) {
	p = Poisoned{Request: r, Deliveries: deliveries, Error: toRead(reason.Error())}
	if !r.isText() {
		p.Request = Request{URL: toRead(r.URL), Method: toRead(r.Method)}
		p.Exact, err = encodeGob(r)
	}
	return p, err
}

func toRead(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), mostToRead)], "\ufffd")
}
