package fetch_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// What can be wrong with an input, a network or a server is numbered here from
// 1 to 116. A fault is a case of it; the files fault_*_test.go have those of a section each. It is run over
// HTTP/1, HTTP/1 on TLS and HTTP/2, as far as it can happen there,
//
//   - with one retry, which shows whether it is retried, and how many requests the server sees;
//   - if it is, with a POST as well, which must not be retried unless nothing was sent;
//   - in a batch with two URLs that are well, and must not notice;
//   - with a secret in every part of the request, which must show nowhere;
//   - and goroutines, file descriptors and connections are counted afterwards.
type fault struct {
	number int
	name   string

	// What the server does. One of these; without any there is no server.
	reply    string             // HTTP/1: send this, once a request has come, and then do what then says
	wire     func(*faultPeer)   // HTTP/1: do this, once a request has come
	frames   func(*faultFrames) // HTTP/2: do this for each request
	handler  http.HandlerFunc   // all: be an ordinary server
	accepted func(*faultPeer)   // all: do this with a connection at once

	then     func(*faultPeer)                    // after reply; nil: close the connection
	proxy    func(*faultPeer)                    // what a proxy does with a connection
	tls      func(*tls.Config)                   // changes to the server's
	method   string                              // if not GET, and POST where that is retried
	client   func(*faultServer, *http.Transport) // changes to the client's, which is not the Fetcher's own then
	target   func(base string) string            // makes the URL of that of the server
	opts     []fetch.Option                      // besides those of all faults
	on       []protocol                          // nil: all that the server speaks
	settings []byte                              // of HTTP/2
	early    bool                                // the server does not wait for the body of a request
	upload   int                                 // size of that body

	virtual bool // in virtual time, over connections in memory

	// What becomes of it.
	errs  []error          // that errors.Is finds, and no sentinel besides; nil: no error, unless there is a cause
	cause func(error) bool // looks for what has no value to compare with
	again again            // whether another attempt is made
	sent  int              // requests that the server sees of an attempt, if it is not one
	code  int              // StatusCode, if there is one
	body  string           // without an error
}

// again says for which requests another attempt is made.
type again int

const (
	never again = iota
	ifIdempotent
	anyMethod // since nothing was sent
)

// garbled is for replies that make no sense. An error of the protocol is not among
// what is retried by default: the next answer would likely be no better.
const garbled = never

// none is fault.sent of a fault that keeps requests from being sent.
const none = -1

type protocol string

const (
	http1    protocol = "HTTP/1"
	http1TLS protocol = "HTTP/1 on TLS"
	http2    protocol = "HTTP/2"
)

// as is a fault.cause that looks for a type.
func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// sentinels are what an error can be, one at a time.
var sentinels = []error{
	fetch.ErrInvalidURL, fetch.ErrTimeout, fetch.ErrBodyTooLarge, fetch.ErrTruncated, fetch.ErrProtocol,
	fetch.ErrRedirect, fetch.ErrBlocked, fetch.ErrHostDown, fetch.ErrHostPaused,
}

// The cases that take more than a server, and the tests that have them.
var otherFaults = map[int][]string{
	1:   {"TestEmptyListGivesAnEmptySlice"},
	8:   {"TestEqualURLsAreFetchedOnceEach", "TestDedupSendsEachDistinctURLOnce"},
	9:   {"TestCallersSlicesAndHeadersAreNotKept"},
	10:  {"TestAMillionURLsStreamInBoundedMemory", "TestGoroutinesAreNoMoreThanTheSlotsAndFour"},
	11:  {"TestInvalidOptionIsAnErrorBeforeAnythingIsSent"},
	12:  {"TestNilContextIsAnErrorInEachResult", "TestNilMeansTheDefault"},
	16:  {"TestADialThatNobodyAnswers"},
	21:  {"TestDescriptorsThatRunOut"},
	22:  {"TestPortsThatRunOut"},
	33:  {"TestCookiesWithoutNumberAreBounded"},
	54:  {"TestGzipBombsStayWithinTheMemoryLimit", "TestABodyCannotFillMemory"},
	62:  {"TestAConnectionIsUsedAgainOnceItsBodyWasRead", "TestAnErrorPageWithoutEndDoesNotHoldTheRetryUp"},
	64:  {"TestAStrangeRoundTripperHarmsItsOwnURLOnly"},
	65:  {"TestAStrangeRoundTripperHarmsItsOwnURLOnly"},
	66:  {"TestAStrangeRoundTripperHarmsItsOwnURLOnly", "TestPanicOfOthersCodeComesOutAtTheCaller"},
	67:  {"TestUnreadBodiesStopFurtherStarts"},
	80:  {"TestAHopWaitsForTheLimitsOfTheHostThatItLeadsTo", "TestHostConcurrencyIsReachedWithRedirectsIntoTheHost"},
	82:  {"TestCheckRedirectOfTheClientIsAskedAsNetHTTPDoes", "TestCookiesOfTheJarAreAsInNetHTTP"},
	83:  {"TestAConnectionThatDiesWithItsSecondRequest"},
	84:  {"TestConnectionsThatAreClosedWhenIdleAreNoErrorOfAGET"},
	88:  {"TestAllRequestsOnALostConnectionFail"},
	90:  {"TestHostileRetryAfterValues"},
	91:  {"TestADeadHostCostsLittleMoreThanOneAttemptForEachURL"},
	92:  {"TestBlackHoledHostDoesNotHoldUpOthers"},
	93:  {"TestACutBodyIsFetchedFromTheStart"},
	94:  {"TestARetryHasABodyOfItsOwn", "TestBodiesAreSentAgainByteForByte"},
	96:  {"TestLimitsHoldForRandomWork", "TestRetriesObeyEveryLimit", "TestNoRequestStartsAfterCancel"},
	97:  {"TestHostLimitsGetHostKeys"},
	99:  {"TestContextThatIsDoneSendsNothing"},
	100: {"TestCancelEndsTheBatchAtOnceAtEveryStage"},
	101: {"TestABackOffThatCannotFitEndsAtOnce", "TestAPauseThatCannotFitEndsTheHostsURLsAtOnce"},
	102: {"TestTransportThatIgnoresItsContextIsWaitedFor"},
	103: {"TestARequestBodyThatBlocksEndsWithTheAttempt"},
	104: {"TestPanicOfOthersCodeComesOutAtTheCaller", "TestPanicOfARequestBodyComesOutAtTheCaller"},
	105: {"TestGoexitInOthersCodeIsAnErrorOfThatURL", "TestGoexitInTheLimiterIsAnErrorOfOneURL"},
	106: {"TestLeavingTheLoopCancelsAndWaits"},
	107: {"TestLeavingTheLoopCancelsAndWaits"}, // the runtime panics at a yield after that
	108: {"TestStreamStartsNothingBeforeItIsRangedOver"},
	109: {"TestEachRangeIsARunOfItsOwn"},
	110: {"TestUnreadResultsHoldNoSlot", "TestUnreadBodiesStopFurtherStarts"},
	111: {"TestTheInputIsReadAtMostTheLookaheadAhead"},
	112: {"TestALoopBodyMayCallTheSameFetcher", "TestAnInputIteratorMayCallTheSameFetcher"},
	113: {"TestSeveralBatchesShareOneFetcher"},
	114: {"TestAPanicOfTheInputComesOutOfTheLoop"},
	116: {"TestExpectContinue"},
}

// The cases of which there is no test, and why.
var untestedFaults = map[int]string{
	98: "a test cannot set the clock of the machine; times are compared by Sub, which goes by the monotonic reading",
}

const lastFault = 116

func TestEveryFaultHasATest(t *testing.T) {
	tests, rows := map[string]bool{}, map[int]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if pair, ok := n.(*ast.KeyValueExpr); ok && fmt.Sprint(pair.Key) == "number" {
				if literal, ok := pair.Value.(*ast.BasicLit); ok {
					number, _ := strconv.Atoi(literal.Value)
					rows[number] = true
				}
			}
			return true
		})
	}
	for number := 1; number <= lastFault; number++ {
		for _, name := range otherFaults[number] {
			if !tests[name] {
				t.Errorf("%d: there is no %s", number, name)
			}
		}
		if !rows[number] && otherFaults[number] == nil && untestedFaults[number] == "" {
			t.Errorf("%d: there is no test, and no reason", number)
		}
		if untestedFaults[number] != "" && (rows[number] || otherFaults[number] != nil) {
			t.Errorf("%d: there is a test, and a reason that there is none", number)
		}
	}
}

func runFaults(t *testing.T, faults []fault) {
	watchLog(t)
	for _, f := range faults {
		for _, p := range f.protocols() {
			if ownTLS() && (p == http1 || f.virtual || f.client != nil) {
				continue // which is no different there
			}
			t.Run(fmt.Sprintf("%d %s/%s", f.number, f.name, p), func(t *testing.T) {
				if f.virtual {
					synctest.Test(t, func(t *testing.T) { f.run(t, p) })
				} else {
					f.run(t, p)
				}
			})
		}
	}
}

func (f *fault) protocols() []protocol {
	onHTTP1, onHTTP2 := f.reply != "" || f.wire != nil, f.frames != nil
	switch {
	case f.on != nil:
		return f.on
	case f.handler != nil, f.accepted != nil, onHTTP1 && onHTTP2:
		return []protocol{http1, http1TLS, http2}
	case onHTTP1:
		return []protocol{http1, http1TLS}
	case onHTTP2:
		return []protocol{http2}
	}
	return []protocol{http1}
}

func (f *fault) run(t *testing.T, p protocol) {
	server := newFaultServer(t, f, p)
	defer f.endTime(t)
	defer server.close()
	before := f.resources()
	methods := []string{http.MethodGet, http.MethodPost}
	switch {
	case f.method != "":
		methods = []string{f.method}
	case f.again == never:
		methods = methods[:1]
	}
	for _, method := range methods {
		attempts := 1
		switch {
		case slices.Contains(f.errs, fetch.ErrInvalidURL):
			attempts = 0
		case f.again == anyMethod, f.again == ifIdempotent && method == http.MethodGet:
			attempts = 2
		}
		r := server.fetch(t, method)
		f.check(t, method, r, attempts)
		if onHTTP2 := r.Proto == "HTTP/2.0"; r.Proto != "" && r.Redirects == 0 && onHTTP2 != (p == http2) {
			t.Errorf("%s: it was over %s", method, r.Proto)
		}
		if sent, want := server.takeRequests(), attempts*f.sentEach(); sent != want {
			t.Errorf("%s: the server saw %d requests, want %d", method, sent, want)
		}
		if !server.waitForNone() {
			t.Errorf("%s: a connection to the server is still open", method)
		}
	}
	before.check(t)
}

// resources returns what is in use. In virtual time there is nothing to count:
// synctest waits for all goroutines, and nothing is opened.
func (f *fault) resources() resources {
	if f.virtual {
		return resources{}
	}
	return resourcesInUse()
}

// endTime lets virtual time go on until what may outlive a batch has ended:
// a name server that does not answer is waited for, and given up.
func (f *fault) endTime(t *testing.T) {
	if f.virtual {
		checkNoLeaks(t)
		time.Sleep(10 * time.Minute)
	}
}

func (f *fault) sentEach() int {
	serves := f.reply != "" || f.wire != nil || f.frames != nil || f.handler != nil
	switch {
	case f.sent == none:
		return 0
	case f.sent == 0 && serves:
		return 1
	}
	return f.sent
}

func (f *fault) fails() bool { return f.errs != nil || f.cause != nil }

func (f *fault) check(t *testing.T, method string, r fetch.Result, attempts int) {
	t.Helper()
	if r.Attempts != attempts {
		t.Errorf("%s: %d attempts, want %d", method, r.Attempts, attempts)
	}
	f.checkError(t, method, r.Err)
	for _, attempt := range r.History {
		f.checkError(t, method, attempt.Err)
	}
	if r.StatusCode != f.code {
		t.Errorf("%s: status %d, want %d", method, r.StatusCode, f.code)
	}
	if !f.fails() && string(r.Body) != f.body {
		t.Errorf("%s: %d bytes: %.80q", method, len(r.Body), r.Body)
	}
}

func (f *fault) checkError(t *testing.T, method string, err error) {
	t.Helper()
	if (err != nil) != f.fails() {
		t.Errorf("%s: error %v", method, err)
		return
	}
	for _, want := range f.errs {
		if !errors.Is(err, want) {
			t.Errorf("%s: error is not %q: %v", method, want, err)
		}
	}
	if f.cause != nil && !f.cause(err) {
		t.Errorf("%s: the cause is not in the error: %v", method, err)
	}
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) && !slices.Contains(f.errs, sentinel) {
			t.Errorf("%s: error is %q: %v", method, sentinel, err)
		}
	}
}

// A faultServer does what a fault says.
type faultServer struct {
	fault     *fault
	protocol  protocol
	memory    *memoryNetwork // nil: the real one
	listener  net.Listener
	host      string // with the port, where that is needed
	base      string // URL
	proxyHost string
	good      string // URL of a server that is well
	other     string // URL of one that redirects lead to, and that must not get a secret
	closeIdle func() // of the client
	closers   []func()
	serving   sync.WaitGroup

	mu       sync.Mutex
	requests int
	open     map[net.Conn]bool
}

func newFaultServer(t *testing.T, f *fault, p protocol) *faultServer {
	s := &faultServer{fault: f, protocol: p, open: map[net.Conn]bool{}}
	if f.virtual {
		s.memory = newMemoryNetwork()
	}
	goodListener, goodHost := s.listen(t, "good.example", "80")
	s.serve(goodListener, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "good") }, nil)
	otherListener, otherHost := s.listen(t, "other.example", "80")
	s.serve(otherListener, refuseSecrets(t), nil)
	s.runProxy(t)
	s.good, s.other = "http://"+goodHost, "http://"+otherHost
	scheme, port := "http", "80"
	if p != http1 {
		scheme, port = "https", "443"
	}
	s.listener, s.host = s.listen(t, "bad.example", port)
	s.base = scheme + "://" + s.host
	switch {
	case f.handler != nil && p == http1:
		s.serve(s, s.handle, nil)
	case f.handler != nil:
		s.serve(s, s.handle, s.tlsConfig())
	case f.reply != "" || f.wire != nil || f.frames != nil || f.accepted != nil:
		s.closers = append(s.closers, func() { s.listener.Close() })
		s.acceptAll(s, s.converse)
	default:
		s.listener.Close()
	}
	return s
}

// listen returns a listener and its host: with the name in memory, otherwise on loopback.
func (s *faultServer) listen(t *testing.T, name, port string) (l net.Listener, host string) {
	if s.memory != nil {
		return s.memory.listen(name + ":" + port), name
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, l.Addr().String()
}

func (s *faultServer) serve(l net.Listener, handler http.HandlerFunc, secure *tls.Config) {
	server := &http.Server{Handler: handler, TLSConfig: secure, ErrorLog: log.New(io.Discard, "", 0)}
	s.closers = append(s.closers, func() { server.Close() })
	s.serving.Go(func() {
		if secure == nil {
			server.Serve(l)
		} else {
			server.ServeTLS(l, "", "")
		}
	})
}

// runProxy runs the proxy, or keeps a port on which there is none.
func (s *faultServer) runProxy(t *testing.T) {
	l, host := s.listen(t, "proxy.example", "80")
	s.proxyHost = host
	if s.fault.proxy == nil {
		l.Close()
		return
	}
	s.closers = append(s.closers, func() { l.Close() })
	s.acceptAll(l, func(conn net.Conn) { s.fault.proxy(&faultPeer{Conn: conn, server: s}) })
}

// acceptAll serves each connection on a goroutine of its own.
func (s *faultServer) acceptAll(l net.Listener, converse func(net.Conn)) {
	s.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute)) // which ends what holds a connection
				converse(conn)
			})
		}
	})
}

// refuseSecrets is a server that fails the test if a request has a secret in it. It
// redirects to where the query says, if it does.
func refuseSecrets(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		dump, err := httputil.DumpRequest(req, true)
		if err != nil || bytes.Contains(dump, []byte(canary)) || req.Header.Get("Authorization") != "" {
			t.Errorf("another origin got, with error %v:\n%s", err, dump)
		}
		if back := req.URL.Query().Get("back"); back != "" {
			http.Redirect(w, req, back, http.StatusFound)
			return
		}
		io.WriteString(w, "other")
	}
}

func (s *faultServer) tlsConfig() *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{testCertificates().good}, NextProtos: []string{"http/1.1"}}
	if s.protocol == http2 {
		c.NextProtos = []string{"h2"}
	}
	if s.fault.tls != nil {
		s.fault.tls(c)
	}
	return c
}

// close ends the servers.
func (s *faultServer) close() {
	for _, closer := range s.closers {
		closer()
	}
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
	s.serving.Wait()
}

// Accept, Close and Addr make the server the listener of an http.Server, to
// count its connections.
func (s *faultServer) Accept() (net.Conn, error) {
	conn, err := s.listener.Accept()
	if err != nil {
		return nil, err
	}
	counted := &countedConn{conn, s}
	s.mu.Lock()
	s.open[counted] = true
	s.mu.Unlock()
	return counted, nil
}

func (s *faultServer) Close() error   { return s.listener.Close() }
func (s *faultServer) Addr() net.Addr { return s.listener.Addr() }

type countedConn struct {
	net.Conn
	server *faultServer
}

func (c *countedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.open, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// waitForNone reports whether all connections are closed, within 2 s: the
// server hears of it a moment after the client has done it.
func (s *faultServer) waitForNone() bool {
	for range 400 {
		s.closeIdle() // again and again, as one of HTTP/2 is not idle at once
		s.mu.Lock()
		open := len(s.open)
		s.mu.Unlock()
		if open == 0 {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// count counts a request and returns its number since the last takeRequests, from 1.
func (s *faultServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return s.requests
}

func (s *faultServer) takeRequests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.requests
	s.requests = 0
	return n
}

func (s *faultServer) handle(w http.ResponseWriter, req *http.Request) {
	s.count()
	s.fault.handler(w, req.WithContext(context.WithValue(req.Context(), serverKey{}, s)))
}

type serverKey struct{}

// serverOf returns the server, to its handler.
func serverOf(req *http.Request) *faultServer { return req.Context().Value(serverKey{}).(*faultServer) }

func (s *faultServer) converse(conn net.Conn) {
	p := &faultPeer{Conn: conn, below: conn.(*countedConn).Conn, server: s}
	if s.fault.accepted != nil {
		s.fault.accepted(p)
		return
	}
	if s.protocol != http1 {
		secured := tls.Server(conn, s.tlsConfig())
		defer secured.Close()
		if secured.Handshake() != nil {
			return
		}
		p.Conn = secured
	}
	p.reader = bufio.NewReader(p.Conn)
	if s.protocol == http2 {
		(&faultFrames{faultPeer: p}).serve()
		return
	}
	if p.next() == nil {
		return
	}
	if s.fault.wire != nil {
		s.fault.wire(p)
		return
	}
	io.WriteString(p, s.fault.reply)
	if s.fault.then != nil {
		s.fault.then(p)
	}
}

// A faultPeer is the server's side of a connection.
type faultPeer struct {
	net.Conn          // on TLS: what that makes of it
	below    net.Conn // without TLS
	reader   *bufio.Reader
	server   *faultServer
	number   int // of the last request read
	last     *http.Request
}

// next reads a request, with its body; nil if none comes.
func (p *faultPeer) next() *http.Request {
	req, err := http.ReadRequest(p.reader)
	if err != nil {
		return nil
	}
	p.number, p.last = p.server.count(), req
	if p.server.fault.early {
		return req
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil
	}
	return req
}

// hold keeps the connection open until the client closes it.
func hold(p *faultPeer) { io.Copy(io.Discard, p.Conn) }

// cutHard resets the connection.
func cutHard(p *faultPeer) {
	reset(p.below)
	p.below.Close() // before TLS can say goodbye
}

// drip sends a byte every 50 ms, for ever.
func drip(p *faultPeer) {
	for err := error(nil); err == nil; _, err = io.WriteString(p, "x") {
		time.Sleep(50 * time.Millisecond)
	}
}

// flood sends the same again and again, for ever.
func flood(s string) func(*faultPeer) {
	block := []byte(strings.Repeat(s, 1+(16<<10)/len(s)))
	return func(p *faultPeer) {
		for err := error(nil); err == nil; _, err = p.Write(block) {
		}
	}
}

// transport returns the client's Transport; nil means the Fetcher's own.
func (s *faultServer) transport() *http.Transport {
	f := s.fault
	if s.memory == nil && f.client == nil && (s.protocol == http1 || ownTLS()) {
		return nil
	}
	transport := &http.Transport{
		TLSClientConfig:        &tls.Config{RootCAs: testCertificates().pool},
		ForceAttemptHTTP2:      s.protocol == http2,
		MaxResponseHeaderBytes: 1 << 20,
	}
	if s.memory != nil {
		transport.DialContext = s.memory.dial
	}
	if f.client != nil {
		f.client(s, transport)
	}
	return transport
}

// fetch sends a request to the server, in a batch with two that are well.
func (s *faultServer) fetch(t *testing.T, method string) fetch.Result {
	t.Helper()
	opts := []fetch.Option{
		fetch.WithRetries(1), fetch.WithBackoff(0, 0), fetch.WithTimeout(20 * time.Second),
		fetch.WithHeader("X-Api-Key", canary), fetch.WithHeader("X-Api-Key", "2"+canary), fetch.WithHeader("Cookie", "c="+canary),
	}
	s.closeIdle = func() {} // the own client of FetchAll closes all that it has opened
	if transport := s.transport(); transport != nil {
		s.closeIdle = transport.CloseIdleConnections
		opts = append(opts, fetch.WithClient(newClient(transport)))
	}
	opts = append(opts, s.fault.opts...)
	urls := []string{s.good + "/1", s.target(), s.good + "/2"}
	var results []fetch.Result
	if method == http.MethodGet {
		results = fetch.FetchAll(t.Context(), urls, opts...)
	} else {
		results = s.post(t, urls, opts)
	}
	checkResults(t, urls, results)
	for _, i := range []int{0, 2} {
		if r := results[i]; !r.OK() || string(r.Body) != "good" || r.Attempts != 1 {
			t.Errorf("%s: a URL that is well got %d, %q, %v in %d attempts", method, r.StatusCode, r.Body, r.Err, r.Attempts)
		}
	}
	checkNoSecret(t, results)
	return results[1]
}

func (s *faultServer) post(t *testing.T, urls []string, opts []fetch.Option) []fetch.Result {
	reqs := []*http.Request{
		newRequest(t, http.MethodGet, urls[0], nil),
		newRequest(t, http.MethodPost, urls[1], strings.NewReader("secret="+canary+strings.Repeat("x", s.fault.upload))),
		newRequest(t, http.MethodGet, urls[2], nil),
	}
	f := newFetcher(t, opts...)
	if s.transport() == nil {
		s.closeIdle = f.Close
	}
	return f.DoAll(t.Context(), reqs)
}

// target returns the URL to fetch. It has a secret wherever that can be.
func (s *faultServer) target() string {
	if s.fault.target != nil {
		return s.fault.target(s.base)
	}
	return strings.Replace(s.base, "://", "://"+canary+":"+canary+"@", 1) + "/?key=" + canary + "#" + canary
}

// ownTLS reports whether the Fetcher's own client trusts the certificates of the
// servers. That takes a process of its own: see TestTheOwnClientOnTLS.
func ownTLS() bool { return os.Getenv(ownTLSVariable) != "" }

const ownTLSVariable = "FETCH_TEST_OWN_TLS"

// ifOwn is for what only the own client can tell: on TLS the others are injected.
func ifOwn(own, injected again) again {
	if ownTLS() {
		return own
	}
	return injected
}

// resources are what must not become more.
type resources struct {
	goroutines, descriptors int
}

// resourcesInUse returns what the process uses.
func resourcesInUse() resources { return resources{runtime.NumGoroutine(), descriptors()} }

// descriptors returns how many file descriptors are open, where that is known.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// check fails the test if there is more than before, and that for 2 s. Without
// anything before it checks nothing.
func (before resources) check(t *testing.T) {
	t.Helper()
	if before == (resources{}) {
		return
	}
	for wait := time.Millisecond; ; wait *= 2 {
		goroutines, open := runtime.NumGoroutine(), descriptors()
		if goroutines <= before.goroutines && open <= before.descriptors {
			return
		}
		if wait > time.Second {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines were %d before, %d descriptors were %d:\n%s",
				goroutines, before.goroutines, open, before.descriptors, buf[:runtime.Stack(buf, true)])
			return
		}
		time.Sleep(wait)
	}
}

// The certificates of the servers: each its own authority.
type certificates struct {
	pool                              *x509.CertPool // which the client trusts
	good, unknown, elsewhere, expired tls.Certificate
}

var testCertificates = sync.OnceValue(func() certificates {
	// Virtual time begins in the year 2000.
	begin, end := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	c := certificates{
		pool:      x509.NewCertPool(),
		good:      newCertificate(begin, end, "127.0.0.1", "bad.example"),
		unknown:   newCertificate(begin, end, "127.0.0.1", "bad.example"),
		elsewhere: newCertificate(begin, end, "elsewhere.example"),
		expired:   newCertificate(begin, begin.AddDate(0, 1, 0), "127.0.0.1", "bad.example"),
	}
	for _, trusted := range []tls.Certificate{c.good, c.elsewhere, c.expired} {
		c.pool.AddCert(trusted.Leaf)
	}
	if dir := os.Getenv(ownTLSVariable); dir != "" {
		c.trust(dir)
	}
	return c
})

// trust makes the process trust the certificates. It must come before the first handshake.
func (c certificates) trust(dir string) {
	var file bytes.Buffer
	for _, trusted := range []tls.Certificate{c.good, c.elsewhere, c.expired} {
		pem.Encode(&file, &pem.Block{Type: "CERTIFICATE", Bytes: trusted.Certificate[0]})
	}
	name := filepath.Join(dir, "trusted.pem")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", name)
}

func newCertificate(begin, end time.Time, hosts ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: begin, NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
