package faults_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestFaultsOfInputs(t *testing.T) { runFaults(t, inputFaults()) }

func inputFaults() []fault {
	invalid := []error{fetch.ErrInvalidURL}
	// url is a target that has nothing of the server but its host and port.
	url := func(format string) func(string) string {
		return func(base string) string {
			_, host, _ := strings.Cut(base, "://")
			return strings.NewReplacer("HOST", host, "SECRET", fetchtest.Canary).Replace(format)
		}
	}
	hello := func(w http.ResponseWriter, req *http.Request) {
		user, _, _ := req.BasicAuth()
		io.WriteString(w, "hello "+user)
	}
	files := func(_ *faultServer, c *http.Transport) {
		c.RegisterProtocol("file", http.NewFileTransport(http.Dir(os.TempDir())))
	}
	return []fault{
		{number: 2, name: "nothing", target: url(""), errs: invalid},
		{number: 2, name: "blanks", target: url("  "), errs: invalid},
		{number: 2, name: "a path", target: url("/x?SECRET"), errs: invalid},
		{number: 2, name: "no scheme", target: url("//user:SECRET@HOST/x"), errs: invalid},
		{number: 2, name: "a host and a port", target: url("HOST/?SECRET"), errs: invalid},
		{number: 3, name: "no host", target: url("http://"), errs: invalid},
		{number: 3, name: "an opaque part", target: url("http:SECRET"), errs: invalid},
		{number: 3, name: "a path for a host", target: url("http:///x?SECRET"), errs: invalid},
		{number: 4, name: "a control character", target: url("http://user:SECRET@HOST/\x1b[31m?SECRET"), errs: invalid},
		{number: 4, name: "a line end", target: url("http://user:SECRET@HOST/\r\nX-Api-Key: SECRET"), errs: invalid},
		{number: 4, name: "a space in the host", target: url("http://user:SECRET@ho st/"), errs: invalid},
		{number: 4, name: "a bad escape", target: url("http://user:SECRET@%zz/?SECRET"), errs: invalid},
		{number: 4, name: "brackets around IPv4", target: url("http://[127.0.0.1]/?SECRET"), errs: invalid},
		{number: 4, name: "a port that is none", target: url("http://user:SECRET@127.0.0.1:SECRET/"), errs: invalid},
		{number: 5, name: "port 99999", target: url("http://127.0.0.1:99999/?SECRET"), errs: invalid},
		{number: 6, name: "a file", target: url("file:///etc/passwd?SECRET"), errs: invalid},
		{number: 6, name: "a file, which the transport knows", client: files, target: url("file:///etc/passwd"), errs: invalid},
		{number: 6, name: "ftp", target: url("ftp://user:SECRET@HOST/"), errs: invalid},
		{number: 6, name: "data", target: url("data:text/plain,SECRET"), errs: invalid},
		{number: 6, name: "a socket", target: url("unix:/run/x?SECRET"), errs: invalid},
		{number: 6, name: "a script", target: url("javascript:SECRET"), errs: invalid},
		{number: 7, name: "user information", handler: hello, code: 200, body: "hello " + fetchtest.Canary},
		{number: 97, name: "a scheme in upper case", handler: hello, on: []protocol{http1}, target: url("HTTP://SECRET@HOST/"), code: 200, body: "hello " + fetchtest.Canary},
	}
}
