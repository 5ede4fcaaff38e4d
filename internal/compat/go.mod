module github.com/batchhttp/fetch/internal/compat

go 1.26.0

require (
	github.com/andybalholm/brotli v1.3.0
	github.com/batchhttp/fetch v0.0.0
	github.com/klauspost/compress v1.20.4
	github.com/mccutchen/go-httpbin/v2 v2.26.0
	go.uber.org/goleak v1.3.0
	golang.org/x/net v0.62.0
)

require (
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/batchhttp/fetch => ../..
