package faults_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"go/ast"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The faults of inputs, networks and servers have numbers from 1 to 116, and LEGEND.md has
// a line for each. A fault is a case of one of these; each file of this package has the
// cases of a section. A case is run over HTTP/1, HTTP/1 on TLS and HTTP/2, as far as it can
// happen there,
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

// garbled is for replies that make no sense. An error of the protocol is not
// retried by default: the next answer would likely be no better.
const garbled = never

// none is fault.sent of a fault that keeps requests from being sent.
const none = -1

type protocol string

const (
	http1    protocol = "HTTP/1"
	http1TLS protocol = "HTTP/1 on TLS"
	http2    protocol = "HTTP/2"
)

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
	tests, rows := map[string]bool{}, faultsWithRows(t)
	for _, names := range fetchtest.Tests(t) {
		maps.Copy(tests, names)
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

// faultsWithRows returns the numbers of the faults that stand in the files here.
func faultsWithRows(t *testing.T) map[int]bool {
	rows := map[int]bool{}
	for _, file := range fetchtest.Parse(t, "internal/promises/faults/*_test.go") {
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
	return rows
}

var legendLine = regexp.MustCompile(`^\| (\d+) \| \S.* \|$`)

func TestTheLegendHasEveryFault(t *testing.T) {
	text, err := os.ReadFile("LEGEND.md")
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	for line := range strings.Lines(string(text)) {
		found := legendLine.FindStringSubmatch(strings.TrimSpace(line))
		if found == nil {
			continue
		}
		if found[1] != strconv.Itoa(next) {
			t.Fatalf("after %d comes %s", next-1, found[1])
		}
		next++
	}
	if next != lastFault+1 {
		t.Errorf("%d is the last", next-1)
	}
}

func runFaults(t *testing.T, faults []fault) {
	fetchtest.WatchLog(t)
	for _, f := range faults {
		for _, p := range f.protocols() {
			if ownTLS() && (p == http1 || f.virtual || f.client != nil) {
				continue // which is no different there
			}
			t.Run(fmt.Sprintf("%d %s/%s", f.number, f.name, p), func(t *testing.T) {
				if f.virtual {
					synctest.Test(t, func(t *testing.T) { f.run(t, p, false) })
				} else {
					f.run(t, p, false)
				}
			})
			if p == http1 && !f.virtual && f.client == nil {
				t.Run(fmt.Sprintf("%d %s/%s, injected", f.number, f.name, p), func(t *testing.T) { f.run(t, p, true) })
			}
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

func (f *fault) run(t *testing.T, p protocol, injected bool) {
	server := newFaultServer(t, f, p)
	server.injected = injected
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
	before.Check(t)
}

// resources counts the resources in use. In virtual time there is nothing to count:
// synctest waits for all goroutines, and nothing is opened.
func (f *fault) resources() fetchtest.Resources {
	if f.virtual {
		return fetchtest.Resources{}
	}
	return fetchtest.ResourcesInUse()
}

// endTime lets virtual time go on until what may outlive a batch has ended:
// a name server that does not answer is waited for, and given up.
func (f *fault) endTime(t *testing.T) {
	if f.virtual {
		fetchtest.CheckNoLeaks(t)
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
	for _, sentinel := range fetchtest.Sentinels {
		if errors.Is(err, sentinel) && !slices.Contains(f.errs, sentinel) {
			t.Errorf("%s: error is %q: %v", method, sentinel, err)
		}
	}
}
