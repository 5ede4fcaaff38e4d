//go:build linux

package compat

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"go.uber.org/goleak"
)

// nginx is a running nginx that serves the folder www. Each answer names the
// connection and the worker process that it came from.
type nginx struct {
	*process
	dir string
}

// nginxConfig takes lines for the main context and for the http context, the
// arguments of listen, and lines for the server context.
const nginxConfig = `
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
%s
events { worker_connections 1024; }
http {
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
	access_log off;
	sendfile on;
	types { text/plain txt; application/octet-stream bin; }
	%s
	server {
		listen %s;
		root www;
		add_header X-Connection $connection always;
		add_header X-Worker $pid always;
		%s
	}
}
`

type nginxOptions struct{ main, http, listen, server string }

// startNginx starts nginx, or skips the test where there is none. It ends with the test.
func startNginx(t *testing.T, opts nginxOptions) *nginx {
	t.Helper()
	path := findNginx(t)
	dir := t.TempDir()
	for _, name := range []string{"www", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 { // or the workers become somebody who may not read dir
		opts.main += "\nuser root;"
	}
	return &nginx{dir: dir, process: startProcess(t, dir, func(addr string) *exec.Cmd {
		config := fmt.Sprintf(nginxConfig, opts.main, opts.http, addr+" "+opts.listen, opts.server)
		if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command(path, "-p", dir, "-c", "nginx.conf")
	})}
}

// findNginx returns the path of nginx: Debian puts it where only root's PATH leads.
func findNginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("nginx is not installed: the tests against it are skipped (Debian has it as nginx-light)")
	return ""
}

// reload makes nginx start new workers and shut the old ones down.
func (n *nginx) reload(t *testing.T) {
	t.Helper()
	if err := n.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
}

// write puts a file into www and returns its URL.
func (n *nginx) write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(n.dir, "www", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return "http://" + n.addr + "/" + name
}

// noise returns n bytes that differ from seed to seed and do not compress.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(b)
	return b
}

// text is noise in letters, which gzip makes smaller by a half.
func text(n int, seed uint64) []byte {
	return []byte(hex.EncodeToString(noise(n/2, seed)))
}

func connections(results []fetch.Result) map[string]int {
	count := map[string]int{}
	for _, r := range results {
		count[r.Header.Get("X-Connection")]++
	}
	return count
}

func TestNginxConnectionsAreKeptAlive(t *testing.T) {
	server := startNginx(t, nginxOptions{})
	target := server.write(t, "small.txt", []byte("hello"))
	for _, limit := range []int{1, 8} {
		results := get(t, repeat(target, 500), fetch.WithConcurrency(limit))
		mustSucceed(t, results...)
		if used := connections(results); len(used) > limit {
			t.Errorf("%d requests at concurrency %d took %d connections", len(results), limit, len(used))
		}
	}
}

func TestNginxMayEndAConnectionAfterSomeRequests(t *testing.T) {
	server := startNginx(t, nginxOptions{server: "keepalive_requests 10;"})
	target := server.write(t, "small.txt", []byte("hello"))
	results := get(t, repeat(target, 500), fetch.WithConcurrency(8))
	mustSucceed(t, results...)
	for connection, n := range connections(results) {
		if n > 10 {
			t.Errorf("%d answers came over connection %s", n, connection)
		}
	}
}

func TestNginxMayEndAnIdleConnectionAtAnyTime(t *testing.T) {
	// The server's time-out is as long as the pause between two requests, so
	// that some of them meet a connection that is just being closed.
	server := startNginx(t, nginxOptions{server: "keepalive_timeout 20ms;"})
	target := server.write(t, "small.txt", []byte("hello"))
	results := get(t, repeat(target, 150), fetch.WithHostRate(50, 1))
	mustSucceed(t, results...)
}

func TestNginxManySmallFiles(t *testing.T) {
	server := startNginx(t, nginxOptions{})
	var urls []string
	for i := range 1500 {
		urls = append(urls, server.write(t, fmt.Sprintf("%d/%d.bin", i%10, i), noise(i*6, uint64(i))))
	}
	for i, r := range get(t, urls) {
		mustSucceed(t, r)
		if !bytes.Equal(r.Body, noise(i*6, uint64(i))) {
			t.Errorf("%s: another file", r.URL)
		}
	}
}

func TestNginxLargeFiles(t *testing.T) {
	server := startNginx(t, nginxOptions{})
	const size = 32 << 20
	var urls, want []string
	for i := range 3 {
		content := noise(size, uint64(i))
		urls = append(urls, server.write(t, fmt.Sprintf("%d.bin", i), content))
		want = append(want, sum(content))
	}
	t.Run("in memory", func(t *testing.T) {
		for i, r := range get(t, urls, fetch.WithMaxBody(size)) {
			mustSucceed(t, r)
			if sum(r.Body) != want[i] {
				t.Errorf("%s: another hash", r.URL)
			}
		}
	})
	t.Run("beyond the default limit", func(t *testing.T) {
		for _, r := range get(t, urls) {
			if !errors.Is(r.Err, fetch.ErrBodyTooLarge) || r.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d, error %v; want ErrBodyTooLarge", r.URL, r.StatusCode, r.Err)
			}
		}
	})
	t.Run("to files", func(t *testing.T) {
		dir := t.TempDir()
		name := func(i int) string { return filepath.Join(dir, strconv.Itoa(i)) }
		results := get(t, urls, fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
			file, err := os.Create(name(r.Index))
			if err != nil {
				return err
			}
			_, err = io.Copy(file, body)
			return errors.Join(err, file.Close())
		}))
		mustSucceed(t, results...)
		for i := range urls {
			if content, err := os.ReadFile(name(i)); err != nil || sum(content) != want[i] {
				t.Errorf("file %d: %d bytes, error %v", i, len(content), err)
			}
		}
	})
	t.Run("in ranges", func(t *testing.T) {
		const part = 5 << 20
		var reqs []*http.Request
		for from := 0; from < size; from += part {
			reqs = append(reqs, newRequest(t, http.MethodGet, urls[0], nil, "Range", fmt.Sprintf("bytes=%d-%d", from, from+part-1)))
		}
		var joined []byte
		for _, r := range do(t, reqs) {
			if r.StatusCode != http.StatusPartialContent {
				t.Errorf("status %d", r.StatusCode)
			}
			joined = append(joined, r.Body...)
		}
		if sum(joined) != want[0] {
			t.Error("the parts do not make up the whole")
		}
	})
}

func TestNginxAnswersConditionalRequestsWith304(t *testing.T) {
	server := startNginx(t, nginxOptions{})
	target := server.write(t, "page.txt", text(10_000, 1))
	first := getOne(t, target)
	mustSucceed(t, first)

	reqs := []*http.Request{
		newRequest(t, http.MethodGet, target, nil, "If-None-Match", first.Header.Get("Etag")),
		newRequest(t, http.MethodGet, target, nil, "If-Modified-Since", first.Header.Get("Last-Modified")),
		newRequest(t, http.MethodHead, target, nil, "If-None-Match", first.Header.Get("Etag")),
		newRequest(t, http.MethodGet, target, nil, "If-None-Match", `"of another time"`),
	}
	for i, r := range do(t, reqs, fetch.WithConcurrency(1)) { // over one connection, which the next answer must find in order
		want := http.StatusNotModified
		if i == 3 {
			want = http.StatusOK
		}
		if r.Err != nil || r.StatusCode != want {
			t.Errorf("%v: status %d, error %v; want %d", reqs[i].Header, r.StatusCode, r.Err, want)
		}
	}
}

func TestNginxGzip(t *testing.T) {
	server := startNginx(t, nginxOptions{server: "gzip on; gzip_min_length 1; gzip_comp_level 1;", http: "gzip_types text/plain;"})
	var urls []string
	var want [][]byte
	for i, size := range []int{0, 2, 1000, 100_000, 4 << 20} {
		content := text(size, uint64(i))
		urls, want = append(urls, server.write(t, fmt.Sprintf("%d.txt", i), content)), append(want, content)
	}
	for i, r := range get(t, urls) {
		mustSucceed(t, r)
		if !bytes.Equal(r.Body, want[i]) || r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %d bytes of %d, header %v", r.URL, len(r.Body), len(want[i]), r.Header)
		}
	}
	// Who asks for an encoding himself gets it as it comes, as from net/http.
	r := getOne(t, urls[3], fetch.WithHeader("Accept-Encoding", "gzip"))
	if r.Err != nil || r.Header.Get("Content-Encoding") != "gzip" || !bytes.HasPrefix(r.Body, []byte{0x1f, 0x8b}) {
		t.Errorf("error %v, header %v, body begins with %x", r.Err, r.Header, r.Body[:min(2, len(r.Body))])
	}
}

func TestNginxRefusesWhatIsAboveItsLimit(t *testing.T) {
	server := startNginx(t, nginxOptions{
		http:   "limit_req_zone $binary_remote_addr zone=all:1m rate=20r/s;",
		server: "limit_req zone=all burst=5 nodelay; limit_req_status 429;",
	})
	target := server.write(t, "small.txt", []byte("hello"))
	t.Run("all at once", func(t *testing.T) {
		served := 0
		for _, r := range get(t, repeat(target, 100)) {
			switch {
			case r.Err == nil && r.StatusCode == http.StatusTooManyRequests:
			case r.OK() && string(r.Body) == "hello":
				served++
			default:
				t.Errorf("%s: status %d, error %v", r.URL, r.StatusCode, r.Err)
			}
		}
		if served < 6 || served == 100 { // the burst, and one
			t.Errorf("%d of 100 served", served)
		}
	})
	t.Run("as errors", func(t *testing.T) {
		for _, r := range get(t, repeat(target, 100), fetch.WithStatusErrors()) {
			var status *fetch.StatusError
			if r.Err != nil && (!errors.As(r.Err, &status) || status.StatusCode != http.StatusTooManyRequests) {
				t.Errorf("%s: error %v", r.URL, r.Err)
			}
		}
	})
	t.Run("at a rate below it", func(t *testing.T) {
		time.Sleep(500 * time.Millisecond) // nginx's bucket empties at 20 a second
		mustSucceed(t, get(t, repeat(target, 30), fetch.WithHostRate(15, 1))...)
	})
}

func TestNginxRedirectsToFolders(t *testing.T) {
	server := startNginx(t, nginxOptions{server: `
		location = /old { return 301 /folder; }
		location = /far { return 302 http://$http_host/folder/; }
		location = /loop { return 302 /loop; }
		location = /bare { return 302; }`})
	server.write(t, "folder/index.html", []byte("index"))
	base := "http://" + server.addr
	for _, test := range []struct {
		path  string
		hops  int
		final string
	}{{"/folder", 1, "/folder/"}, {"/old", 2, "/folder/"}, {"/far", 1, "/folder/"}} {
		r := getOne(t, base+test.path)
		mustSucceed(t, r)
		if r.Redirects != test.hops || r.FinalURL != base+test.final || string(r.Body) != "index" {
			t.Errorf("%s: %q from %s after %d redirects", test.path, r.Body, r.FinalURL, r.Redirects)
		}
	}
	if r := getOne(t, base+"/loop"); !errors.Is(r.Err, fetch.ErrRedirect) || r.Redirects != 10 {
		t.Errorf("a loop: error %v after %d redirects", r.Err, r.Redirects)
	}
	if r := getOne(t, base+"/bare"); r.Err != nil || r.StatusCode != http.StatusFound {
		t.Errorf("a 302 without Location: status %d, error %v; want it as the result", r.StatusCode, r.Err)
	}
}

func TestNginxRefusals(t *testing.T) {
	server := startNginx(t, nginxOptions{server: `
		location = /hangup { return 444; }
		location = /forbidden { return 403; }
		client_max_body_size 1k;
		large_client_header_buffers 2 1k;`})
	base := "http://" + server.addr
	server.write(t, "small.txt", []byte("hello"))

	r := getOne(t, base+"/hangup")
	if r.Err == nil || r.StatusCode != 0 || errors.Is(r.Err, fetch.ErrTimeout) {
		t.Errorf("a connection closed without an answer: status %d, error %v", r.StatusCode, r.Err)
	}
	results := do(t, []*http.Request{
		newRequest(t, http.MethodGet, base+"/forbidden", nil),
		newRequest(t, http.MethodGet, base+"/missing", nil),
		newRequest(t, http.MethodPost, base+"/small.txt", strings.NewReader("x")),
		newRequest(t, http.MethodGet, base+"/small.txt", nil, "X-Large", strings.Repeat("x", 5000)),
		newRequest(t, http.MethodGet, base+"/small.txt?"+strings.Repeat("x", 5000), nil),
		newRequest(t, http.MethodGet, base+"/small.txt", nil),
	})
	for i, want := range []int{403, 404, 405, 400, 414, 200} {
		if r := results[i]; r.Err != nil || r.StatusCode != want {
			t.Errorf("request %d: status %d, error %v; want %d", i, r.StatusCode, r.Err, want)
		}
	}
	// The answer comes before the body is sent, and the connection ends under it.
	r = doOne(t, newRequest(t, http.MethodPost, base+"/small.txt", bytes.NewReader(make([]byte, 8<<20))))
	if r.Err == nil && r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: status %d", r.StatusCode)
	}
}

func TestNginxHTTP2(t *testing.T) {
	certificate, key, roots := newCertificate(t)
	server := startNginx(t, nginxOptions{
		listen: "ssl http2",
		// A few streams, and a GOAWAY after every hundred requests.
		server: fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; http2_max_concurrent_streams 8; keepalive_requests 100;", certificate, key),
	})
	content := noise(200_000, 1)
	server.write(t, "file.bin", content)
	target := "https://" + server.addr + "/file.bin"

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	results := get(t, repeat(target, 600), fetch.WithClient(&http.Client{Transport: transport}), fetch.WithConcurrency(32))
	for _, r := range results {
		mustSucceed(t, r)
		if r.Proto != "HTTP/2.0" || !bytes.Equal(r.Body, content) {
			t.Errorf("%s: %s, %d bytes of %d", r.URL, r.Proto, len(r.Body), len(content))
		}
	}
	if n := len(connections(results)); n < 6 {
		t.Errorf("%d connections for 600 requests: the server ended none", n)
	}
}

// newCertificate writes a certificate for 127.0.0.1 and its key to files.
func newCertificate(t *testing.T) (certificate, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "compat"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certificate, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", pkcs8)
	return certificate, key, roots
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// slowFiles starts a server of files that take it half a second or more each,
// as they are and in gzip (in chunks, with no length to measure against), and
// returns their URLs and hashes.
func slowFiles(t *testing.T, main string) (server *nginx, urls, want []string) {
	t.Helper()
	server = startNginx(t, nginxOptions{
		main:   main,
		http:   "gzip_types text/plain;",
		server: "gzip on; gzip_comp_level 1; limit_rate 1m; location = /pid { return 200 $pid; }",
	})
	for i := range 16 {
		name, content := fmt.Sprintf("%d.bin", i), noise(3<<19, uint64(i)) // the first second's worth goes out at once
		if i%2 == 1 {
			name, content = fmt.Sprintf("%d.txt", i), text(3<<19, uint64(i))
		}
		urls = append(urls, server.write(t, name, content))
		want = append(want, sum(content))
	}
	return server, urls, want
}

// wholeOrFailed checks that a result without an error has the whole file, and
// returns how many have one.
func wholeOrFailed(t *testing.T, results []fetch.Result, want []string) (whole int) {
	t.Helper()
	for i, r := range results {
		switch {
		case r.Err != nil:
			if errors.Is(r.Err, fetch.ErrTimeout) || errors.Is(r.Err, fetch.ErrProtocol) {
				t.Errorf("%s: a cut connection is called %v", r.URL, r.Err)
			}
			t.Log(r.Err)
		case r.StatusCode != http.StatusOK || sum(r.Body) != want[i%len(want)]:
			t.Errorf("%s: no error, status %d, and %d bytes with another hash", r.URL, r.StatusCode, len(r.Body))
		default:
			whole++
		}
	}
	t.Logf("%d of %d whole", whole, len(results))
	return whole
}

// every calls f n times on another goroutine, each time after a pause; wait
// waits for the end.
func every(pause time.Duration, n int, f func()) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			time.Sleep(pause)
			f()
		}
	})
	return wg.Wait
}

func TestNginxWorkersAreKilledInMidBody(t *testing.T) {
	server, urls, want := slowFiles(t, "")
	var killed atomic.Int32
	wait := every(700*time.Millisecond, 3, func() {
		if pid := server.worker(t); pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed.Add(1)
		}
	})
	results := get(t, urls, fetch.WithConcurrency(8))
	wait()
	if whole := wholeOrFailed(t, results, want); whole == len(results) {
		t.Errorf("no file was cut by %d killed workers", killed.Load())
	}
}

// worker returns the id of a worker process, or 0 with an error of the test.
func (n *nginx) worker(t *testing.T) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + n.addr + "/pid")
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || pid <= 1 {
		t.Errorf("worker %q, error %v", text, err)
		return 0
	}
	return pid
}

func TestNginxWorkersAreKilledUnderBodyFunc(t *testing.T) {
	_, urls, want := slowFiles(t, "")
	var mu sync.Mutex
	got := map[int]string{}
	results := get(t, urls, fetch.WithConcurrency(8), fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
		hash := sha256.New()
		if _, err := io.CopyN(hash, body, 64<<10); err != nil {
			return err
		}
		if r.Index%6 == 0 { // the worker that is sending this very body
			pid, err := strconv.Atoi(r.Header.Get("X-Worker"))
			if err != nil || pid <= 1 {
				return fmt.Errorf("worker %d: %w", pid, err)
			}
			syscall.Kill(pid, syscall.SIGKILL)
		}
		io.Copy(hash, body) // the error is not passed on, and the attempt must fail all the same
		mu.Lock()
		defer mu.Unlock()
		got[r.Index] = hex.EncodeToString(hash.Sum(nil))
		return nil
	}))
	whole := 0
	for i, r := range results {
		switch {
		case r.Err != nil:
			t.Log(r.Err)
		case got[i] != want[i]:
			t.Errorf("%s: no error, and another hash", r.URL)
		default:
			whole++
		}
		if i%6 == 0 && r.Err == nil {
			t.Errorf("%s: its worker was killed, and it has no error", r.URL)
		}
	}
	t.Logf("%d of %d whole", whole, len(results))
}

func TestNginxReloadsAndCutsWhatIsSlow(t *testing.T) {
	// Old workers finish what they are sending for 50 ms and then close it.
	server, urls, want := slowFiles(t, "worker_shutdown_timeout 50ms;")
	wait := every(700*time.Millisecond, 3, func() { server.reload(t) })
	results := get(t, urls, fetch.WithConcurrency(8))
	wait()
	if whole := wholeOrFailed(t, results, want); whole == len(results) {
		t.Error("no file was cut")
	}
	for _, r := range results {
		if r.Err != nil && r.StatusCode != 0 && !errors.Is(r.Err, fetch.ErrTruncated) && !errors.Is(r.Err, syscall.ECONNRESET) {
			t.Errorf("%s: a body that was cut is called %v", r.URL, r.Err)
		}
	}
}

func TestNginxReloadsWithoutHarmToSmallFiles(t *testing.T) {
	server := startNginx(t, nginxOptions{})
	content := noise(10_000, 1)
	target := server.write(t, "small.bin", content)
	// Idle connections of the old workers close while requests are on their
	// way; net/http sends such a GET again.
	wait := every(150*time.Millisecond, 8, func() { server.reload(t) })
	results := get(t, repeat(target, 3000), fetch.WithRate(2000, 20), fetch.WithConcurrency(16))
	wait()
	whole := wholeOrFailed(t, results, []string{sum(content)})
	if whole < len(results)*9/10 {
		t.Errorf("%d of %d failed", len(results)-whole, len(results))
	}
}

// nginx is another process, so that every goroutine here is the client's. A
// connection that is still open has two.
func TestNothingIsLeftWhenFetchAllReturns(t *testing.T) {
	server, urls, _ := slowFiles(t, "")
	urls = append(urls, repeat("http://"+server.addr+"/pid", 200)...)
	before := goleak.IgnoreCurrent()
	for _, test := range []struct {
		name string
		ends time.Duration
	}{
		{"after the last answer", time.Minute},
		{"after a deadline", 200 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.ends)
			defer cancel()
			results := fetch.FetchAll(ctx, urls)
			goleak.VerifyNone(t, before)
			for i, r := range results {
				check(t, i, http.MethodGet, urls[i], r)
			}
		})
	}
}
