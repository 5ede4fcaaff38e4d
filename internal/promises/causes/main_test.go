package causes_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// proxyURL is of a proxy that refuses every tunnel, with the status line that the name of the
// origin stands for. The own client uses it too, as that of the environment.
var proxyURL string

func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(refuse))
	proxyURL = proxy.URL
	os.Setenv("HTTPS_PROXY", proxy.URL)
	fetchtest.Main(m)
}

// statusLines are those of proxies, by the first label of the origin that is asked for.
var statusLines = map[string]string{
	"s300": "300 Multiple Choices", "s403": "403 Forbidden", "s407": "407 Proxy Authentication Required",
	"s429": "429 Too Many Requests", "s500": "500 Internal Server Error", "s502": "502 Bad Gateway",
	"s503": "503 Service Unavailable", "s504": "504 Gateway Timeout",
	"words": "502 " + fetchtest.Canary, "none": "502", "empty": "502 ", "number": "599 " + fetchtest.Canary,
}

func refuse(w http.ResponseWriter, req *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	name, _, _ := strings.Cut(req.Host, ".")
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nX-Secret: %s\r\nContent-Length: 0\r\n\r\n", statusLines[name], fetchtest.Canary)
	io.Copy(io.Discard, conn)
}
