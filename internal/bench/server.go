package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Roles are handed to a copy of this program in an environment variable: an
// argument could be mistaken for a flag's.
const (
	roleVariable  = "FETCH_BENCH_ROLE"
	roleServer    = "server"
	roleContender = "contender"
)

// endpoints are the URLs, without a path, at which each kind of listener is reached.
type endpoints map[listenerKind][]string

// A greeting is what the server process prints once it listens.
type greeting struct {
	Reached     endpoints
	Control     string // URL that returns the tally and starts a new one
	Certificate []byte // PEM of the certificate to trust
}

// serve is the server process. It ends when its standard input does, and so
// does not outlive the process that started it.
func serve(lifeline io.Reader, output io.Writer) error {
	s, hello, err := startServer()
	if err != nil {
		return err
	}
	defer s.close()
	if err := json.NewEncoder(output).Encode(hello); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, lifeline)
	return err
}

// A server serves every workload on loopback.
type server struct {
	servers []*http.Server
	tally   counter
}

func startServer() (*server, greeting, error) {
	s := &server{}
	hello, err := s.start()
	if err != nil {
		s.close()
		return nil, greeting{}, err
	}
	return s, hello, nil
}

func (s *server) start() (greeting, error) {
	hello := greeting{Reached: endpoints{}}
	config, pem, err := newCertificate()
	if err != nil {
		return hello, err
	}
	hello.Certificate = pem
	handler := newHandler(&s.tally)
	for kind, count := range map[listenerKind]int{plainHTTP: 1, tlsHTTP1: 1, tlsHTTP2: 1, manyHosts: hostCount} {
		for i := range count {
			web := &http.Server{Handler: handler, ConnState: s.tally.connection, ErrorLog: silent()}
			switch kind {
			case tlsHTTP1:
				web.TLSConfig, web.Protocols = config.Clone(), onlyHTTP1()
			case tlsHTTP2:
				web.TLSConfig = config.Clone()
			}
			base, err := s.listen(web, loopbackAddress(kind, i))
			if err != nil {
				return hello, fmt.Errorf("%s: %w", kind, err)
			}
			hello.Reached[kind] = append(hello.Reached[kind], base)
		}
	}
	hello.Control, err = s.listen(&http.Server{Handler: &s.tally}, "127.0.0.1:0")
	return hello, err
}

// loopbackAddress gives each of many hosts an address of its own: a host is
// what has a connection pool and limits of its own.
func loopbackAddress(kind listenerKind, i int) string {
	if kind == manyHosts {
		return fmt.Sprintf("127.0.1.%d:0", i+1)
	}
	return "127.0.0.1:0"
}

func (s *server) listen(web *http.Server, address string) (base string, err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	s.servers = append(s.servers, web)
	if web.TLSConfig == nil {
		go web.Serve(listener) // until close
		return "http://" + listener.Addr().String(), nil
	}
	go web.ServeTLS(listener, "", "") // until close
	return "https://" + listener.Addr().String(), nil
}

func (s *server) close() {
	for _, web := range s.servers {
		web.Close()
	}
}
