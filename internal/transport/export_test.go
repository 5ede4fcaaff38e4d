package transport

import (
	"context"
	"net"
)

// WrapDials has all connections made by way of wrap.
func (c *Client) WrapDials(wrap func(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error)) {
	connect := c.dialer.connect
	c.dialer.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
		return wrap(ctx, func() (net.Conn, error) { return connect(ctx, network, address) })
	}
}

// Counts returns how many origins the client knows, and how many connections are idle and open.
func (c *Client) Counts() (origins, idle, open int) {
	c.pool.mu.Lock()
	origins, idle = len(c.pool.origins), c.pool.idle.count
	c.pool.mu.Unlock()
	c.dialer.mu.Lock()
	defer c.dialer.mu.Unlock()
	return origins, idle, len(c.dialer.open)
}
