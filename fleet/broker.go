package fleet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A broker is a NATS server in this process.
type broker struct{ server *server.Server }

const brokerStart = 30 * time.Second // with a long backlog to read

func startBroker(dir, listen string) (*broker, error) {
	opts := &server.Options{
		ServerName: "fleet", JetStream: true, StoreDir: dir, Host: "127.0.0.1", Port: server.RANDOM_PORT,
		NoSigs: true, NoLog: true,
	}
	if listen != "" {
		host, port, err := net.SplitHostPort(listen)
		if err != nil {
			return nil, fmt.Errorf("address to listen on, %q: %w", listen, err)
		}
		opts.Host = host
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("address to listen on, %q: the port is no number", listen)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	s.Start()
	b := &broker{s}
	if !s.ReadyForConnections(brokerStart) {
		b.stop()
		return nil, errors.New("broker: not ready within " + brokerStart.String() + "; is its address taken?")
	}
	if !s.JetStreamEnabled() {
		b.stop()
		return nil, fmt.Errorf("broker: cannot keep files in %s", dir)
	}
	return b, nil
}

func (b *broker) url() string { return b.server.ClientURL() }

func (b *broker) inProcess() nats.Option { return nats.InProcessServer(b.server) }

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}
