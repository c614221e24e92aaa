package upstream

import (
	"sync"
	"time"
)

// pool keeps connections for the next request. The last one in is the first out,
// so that what is not needed grows old.
type pool struct {
	mu      sync.Mutex // guards what follows
	conns   []*conn    // the oldest first
	tidying *time.Timer
}

const (
	defaultIdleTimeout = 30 * time.Second
	defaultMaxIdle     = 1024
)

// take returns a connection that was kept and on which nothing has happened
// since, or nil.
func (p *pool) take() *conn {
	for {
		p.mu.Lock()
		n := len(p.conns)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.conns[n-1]
		p.conns[n-1] = nil
		p.conns = p.conns[:n-1]
		p.mu.Unlock()
		if c.tcp == nil || quiet(c.tcp) {
			return c
		}
		c.Close()
	}
}

// put keeps a connection, or closes it.
func (p *pool) put(c *conn, timeout time.Duration, most int) {
	if timeout <= 0 {
		timeout = defaultIdleTimeout
	}
	if most <= 0 {
		most = defaultMaxIdle
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) >= most {
		c.Close()
		return
	}
	c.since = time.Now()
	p.conns = append(p.conns, c)
	if p.tidying == nil {
		p.tidying = time.AfterFunc(timeout, func() { p.tidy(timeout) })
	}
}

// tidy closes what is too old, and comes again while anything is kept.
func (p *pool) tidy(timeout time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	for old < len(p.conns) && time.Since(p.conns[old].since) >= timeout {
		p.conns[old].Close()
		old++
	}
	p.conns = append(p.conns[:0], p.conns[old:]...)
	clear(p.conns[len(p.conns):cap(p.conns)])
	if len(p.conns) == 0 {
		p.tidying = nil
		return
	}
	p.tidying = time.AfterFunc(timeout-time.Since(p.conns[0].since), func() { p.tidy(timeout) })
}

func (p *pool) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
	if p.tidying != nil {
		p.tidying.Stop()
		p.tidying = nil
	}
}
