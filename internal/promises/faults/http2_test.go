package faults_test

import (
	"encoding/binary"
	"io"
)

// A faultFrames is a connection of HTTP/2 at the server, on which frames are
// written one by one (RFC 9113): a server that keeps to the rules could not break them.
type faultFrames struct {
	*faultPeer
	stream uint32 // of the last request
}

// Kinds of frames and flags.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
)

// Error codes.
const (
	codeNone     = 0x0
	codeProtocol = 0x1
	codeInternal = 0x2
	codeRefused  = 0x7
	codeCalm     = 0xb
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// serve answers each request with the fault.
func (f *faultFrames) serve() {
	if _, err := io.ReadFull(f.reader, make([]byte, len(preface))); err != nil {
		return
	}
	f.write(frameSettings, 0, 0, f.server.fault.settings)
	for f.next() {
		f.server.fault.frames(f)
	}
}

// next reads up to the end of the next request.
func (f *faultFrames) next() bool {
	for {
		kind, flags, stream, payload := f.read()
		switch {
		case kind < 0:
			return false
		case kind == frameSettings && flags&flagAck == 0:
			f.write(frameSettings, flagAck, 0, nil)
		case kind == framePing && flags&flagAck == 0:
			f.write(framePing, flagAck, 0, payload)
		case kind == frameHeaders:
			f.stream, f.number = stream, f.server.count()
		}
		end := (kind == frameHeaders || kind == frameData) && flags&flagEndStream != 0
		if end && !f.server.fault.early || kind == frameHeaders && f.server.fault.early {
			return true
		}
	}
}

// read reads a frame; its kind is negative at the end.
func (f *faultFrames) read() (kind int, flags byte, stream uint32, payload []byte) {
	var head [9]byte
	if _, err := io.ReadFull(f.reader, head[:]); err != nil {
		return -1, 0, 0, nil
	}
	payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	if _, err := io.ReadFull(f.reader, payload); err != nil {
		return -1, 0, 0, nil
	}
	return int(head[3]), head[4], binary.BigEndian.Uint32(head[5:]) & (1<<31 - 1), payload
}

func (f *faultFrames) write(kind int, flags byte, stream uint32, payload []byte) error {
	n := len(payload)
	head := binary.BigEndian.AppendUint32([]byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), flags}, stream)
	_, err := f.Write(append(head, payload...))
	return err
}

// headers sends the head of a reply to the last request, with fields given as name, value, name, value.
func (f *faultFrames) headers(flags byte, fields ...string) {
	f.write(frameHeaders, flags|flagEndHeaders, f.stream, headerBlock(fields...))
}

// headerBlock encodes fields as they are (RFC 7541, section 6.2.2).
func headerBlock(fields ...string) []byte {
	var block []byte
	for i, s := range fields {
		if i%2 == 0 {
			block = append(block, 0)
		}
		block = append(appendLength(block, len(s)), s...)
	}
	return block
}

// appendLength encodes a length in 7 bits and more (RFC 7541, section 5.1).
func appendLength(b []byte, n int) []byte {
	if n < 127 {
		return append(b, byte(n))
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// data sends a part of the body.
func (f *faultFrames) data(flags byte, body string) error {
	return f.write(frameData, flags, f.stream, []byte(body))
}

func (f *faultFrames) reset(code uint32) {
	f.write(frameReset, 0, f.stream, binary.BigEndian.AppendUint32(nil, code))
}

// goAway says that requests after the given stream will not be answered.
func (f *faultFrames) goAway(last, code uint32) {
	f.write(frameGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), code))
}

// setting is an entry of a SETTINGS frame.
func setting(id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, id), value)
}

const (
	settingMaxStreams   = 0x3
	settingMaxFrameSize = 0x5
)

// answer is a whole reply.
func (f *faultFrames) answer(body string) {
	f.headers(0, ":status", "200")
	f.data(flagEndStream, body)
}

// close closes the connection, and not by a reset, as it would be with something unread.
func (f *faultFrames) close() {
	if half, ok := f.below.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		io.Copy(io.Discard, f.below)
	}
	f.below.Close()
}

// keepSilentToPings does not even read what comes on the connection.
func (f *faultFrames) keepSilentToPings() { hold(f.faultPeer) }

// keepSilent is a server that does not answer.
func (f *faultFrames) keepSilent() {}
