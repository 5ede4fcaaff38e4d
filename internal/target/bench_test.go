package target

import "testing"

// The benchmarks show the cost of each URL of a batch before it is sent.

const (
	plainText = "https://shop.example.com/catalogue/items/12345?page=2&sort=price"
	oddText   = "https://shop.example.com/catalogue/caf\u00e9 items/12345?page=2&sort=\"price\""
)

func BenchmarkHost(b *testing.B) {
	for b.Loop() {
		Host(plainText)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Parse(plainText)
	}
}

func BenchmarkParseOdd(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Parse(oddText)
	}
}

func BenchmarkDistinct(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Distinct(plainText)
	}
}

func BenchmarkRedact(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Redact(plainText)
	}
}
