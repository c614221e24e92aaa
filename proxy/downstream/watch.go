package downstream

import "time"

// patience is how long a request takes before anybody looks whether its client is
// still there. Most are answered by then.
const patience = 50 * time.Millisecond

// watchLater has the client looked for when a request takes long.
func (c *conn) watchLater() {
	switch {
	case c.raw == nil:
	case c.timer == nil:
		c.timer = time.AfterFunc(patience, c.late)
	default:
		c.timer.Reset(patience)
	}
}

// late is the timer's. If it comes late itself, to another request than the one that
// has set it, that one is watched a little earlier.
func (c *conn) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.now; x != nil {
		x.lasting = true
		c.watch(x)
	}
}

// watch looks for the client of a request that takes long, once its body has come to
// its end and the connection is read no more. mu is held.
func (c *conn) watch(x *exchange) {
	if c.now != x || !x.lasting || !x.whole || c.watching != nil {
		return
	}
	c.lift() // it was the body's, or what was left of the time for the next request
	ended := make(chan struct{})
	c.watching = ended
	go func() { // ends with the client, with its next request, or by stopWatch
		defer close(ended)
		if left(c.raw) {
			x.cancel()
		}
	}()
}

// stopWatch ends the exchange for all who come late, and returns when nobody watches
// any more.
func (c *conn) stopWatch(x *exchange) {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = nil
	if c.watching == nil {
		return
	}
	c.deadline(time.Unix(1, 0))
	<-c.watching // takes no lock
	c.watching = nil
	c.lift()
}

// lost tells the request that nothing more can be read from its client.
func (c *conn) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		c.now.cancel()
	}
}
