package main

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// bodyVariants is how many different bodies a workload has. URL i has body
// i modulo this, so that mixed-up bodies are noticed.
const bodyVariants = 16

// sampleStride is the distance of the bytes that a checksum looks at. A
// whole checksum would cost as much as a tenth of fetching 100 KiB, and draw
// all ratios towards 1. The bodies are random and their lengths compared, so
// that a sample still sees every cut, gap, shift or mix-up.
const sampleStride = 251

// A fingerprint is what a body is checked against.
type fingerprint struct {
	Length int    `json:"length"`
	Sum    uint32 `json:"sum"`
}

func fingerprintOf(body []byte) fingerprint {
	samples := make([]byte, 0, 512)
	for i := 0; i < len(body); i += sampleStride {
		samples = append(samples, body[i])
	}
	return fingerprint{Length: len(body), Sum: crc32.ChecksumIEEE(samples)}
}

// body returns a variant of the workload's body. It is the same in every process.
func (w workload) body(variant int) []byte {
	random := rand.New(rand.NewPCG(uint64(w.size), uint64(variant)))
	body := make([]byte, w.size)
	for i := range body {
		body[i] = "abcdefghijklmnopqrstuvwxyz      "[random.Uint32()%32]
	}
	return body
}

func (w workload) bodies() [][]byte {
	variants := make([][]byte, bodyVariants)
	for v := range variants {
		variants[v] = w.body(v)
	}
	return variants
}

func (w workload) fingerprints() []fingerprint {
	prints := make([]fingerprint, bodyVariants)
	for v := range prints {
		prints[v] = fingerprintOf(w.body(v))
	}
	return prints
}

// check counts the bodies that are as expected, and describes the first that is not.
func check(expect []fingerprint, count int, body func(i int) []byte) (whole int, fault string) {
	for i := range count {
		got := fingerprintOf(body(i))
		switch want := expect[i%len(expect)]; {
		case got == want:
			whole++
		case fault == "":
			fault = fmt.Sprintf("body %d: %d bytes with sum %08x instead of %d with %08x", i, got.Length, got.Sum, want.Length, want.Sum)
		}
	}
	return whole, fault
}
