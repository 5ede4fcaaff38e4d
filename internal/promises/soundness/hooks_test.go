package soundness_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// roundTrip is the stranger's RoundTripper around the http.Transport.
func (r *torture) roundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	r.mu.Lock()
	r.used++
	r.mu.Unlock()
	r.starts.Add()
	leave := r.flight.Enter(host)
	answered := false
	defer func() {
		if !answered {
			leave()
		}
	}()
	f := r.strike("round trip", host, "")
	explode(f)
	if f == fails || f == nothing {
		if req.Body != nil {
			req.Body.Close()
		}
		if f == fails {
			return nil, errTorn
		}
		return nil, nil
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answered = true
	body := &tortureResponse{ReadCloser: resp.Body, run: r, ctx: req.Context(), host: host}
	body.closed = sync.OnceFunc(func() {
		leave()
		r.closed("response of " + host)
	})
	r.opened("response of " + host)
	resp.Body = body
	return resp, nil
}

type tortureResponse struct {
	io.ReadCloser
	run    *torture
	ctx    context.Context
	host   string
	closed func()
}

func (b *tortureResponse) Read(p []byte) (int, error) {
	f := b.run.strike("response read", b.host, "")
	explode(f)
	switch f {
	case fails:
		return 0, errTorn
	case ends:
		return 0, io.ErrUnexpectedEOF
	case idles:
		return 0, nil
	case excess:
		return len(p) + 1, nil
	case blocks:
		return 0, fetchtest.UntilDone(b.ctx)
	case short:
		p = p[:1]
	}
	// Buffers come from a pool, so that their sizes, and the number of reads, vary.
	return b.ReadCloser.Read(p[:min(len(p), 32<<10)])
}

func (b *tortureResponse) Close() error {
	b.closed()
	err := b.ReadCloser.Close()
	f := b.run.strike("response close", b.host, "")
	explode(f)
	if f == fails {
		return errTorn
	}
	return err
}

// A tortureRequest is the body of a request.
type tortureRequest struct {
	io.Reader
	run    *torture
	host   string
	closed chan struct{}
	close  func()
}

func (r *torture) newRequestBody(host string) *tortureRequest {
	b := &tortureRequest{Reader: strings.NewReader(requestText), run: r, host: host, closed: make(chan struct{})}
	b.close = sync.OnceFunc(func() {
		r.closed("request to " + host)
		close(b.closed)
	})
	r.opened("request to " + host)
	return b
}

func (r *torture) getBody(host string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f := r.strike("GetBody", host, "")
		explode(f)
		if f == fails {
			return nil, errHook
		}
		return r.newRequestBody(host), nil
	}
}

func (b *tortureRequest) Read(p []byte) (int, error) {
	f := b.run.strike("request read", b.host, "")
	explode(f)
	switch f {
	case fails:
		return 0, errTorn
	case blocks:
		<-b.closed
		return 0, net.ErrClosed
	case short:
		p = p[:1]
	}
	return b.Reader.Read(p)
}

func (b *tortureRequest) Close() error {
	b.close()
	f := b.run.strike("request close", b.host, "")
	explode(f)
	if f == fails {
		return errTorn
	}
	return nil
}

func (r *torture) requestFunc(req *http.Request) error {
	return r.hook("RequestFunc", req)
}

func (r *torture) checkRedirect(req *http.Request, _ []*http.Request) error {
	return r.hook("CheckRedirect", req)
}

func (r *torture) hook(kind string, req *http.Request) error {
	f := r.strike(kind, req.URL.Host, "")
	explode(f)
	switch f {
	case fails:
		return errHook
	case blocks:
		return fetchtest.UntilDone(req.Context())
	}
	return nil
}

type tortureJar struct{ run *torture }

func (j tortureJar) SetCookies(u *url.URL, _ []*http.Cookie) {
	explode(j.run.strike("Jar", u.Host, "set"))
}

func (j tortureJar) Cookies(u *url.URL) []*http.Cookie {
	explode(j.run.strike("Jar", u.Host, "get"))
	return nil
}

func (r *torture) bodyFunc(ctx context.Context, result fetch.Result, body io.Reader) error {
	f := r.strike("BodyFunc", hostOfURL(result.URL), "")
	explode(f)
	switch f {
	case fails:
		return errHook
	case blocks:
		return fetchtest.UntilDone(ctx)
	case short:
		return nil
	}
	text, err := io.ReadAll(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.calm {
		r.bodies[result.Index] = string(text)
	}
	return err
}

// retryIf retries whatever is not a success.
func (r *torture) retryIf(result fetch.Result) bool {
	f := r.strike("RetryIf", hostOfURL(result.URL), "")
	explode(f)
	again := !result.OK()
	if f == lies {
		return !again
	}
	return again
}

func (r *torture) hostLimits(host string) fetch.HostLimits {
	f := r.strike("HostLimits", host, "")
	explode(f)
	if f == fails {
		return fetch.HostLimits{Concurrency: -1}
	}
	return fetch.HostLimits{Concurrency: 1}
}

func (r *torture) limiter(ctx context.Context) error {
	f := r.strike("Limiter", "", "")
	explode(f)
	switch f {
	case fails:
		return errHook
	case blocks:
		if err := fetchtest.SleepCtx(ctx, time.Minute); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.permits++
	return nil
}

func hostOfURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
