package upstream

import (
	"sync"
	"syscall"
	"time"
)

const (
	// much is how many bytes are worth waking up for while data is moved: a sender
	// and a mover that are equally fast would meet for every packet otherwise.
	much = 512 << 10
	// little is what is worth it in any case.
	little = 64 << 10
	// patience is how long less than that may lie. A sender that is slower than much
	// in this time loses that much time, and no more.
	patience = 10 * time.Millisecond
)

// gatherer waits for a connection to have much to be read, and not for ever: what
// has come within patience is all. Its timer aside, it is for one goroutine at a time.
type gatherer struct {
	raw   syscall.RawConn
	timer *time.Timer // ends the waiting for much

	mu   sync.Mutex // guards mark, and that the kernel knows of it
	mark int        // bytes; zero: any
}

// await is called before waiting. So many bytes will come, or the connection ends.
func (g *gatherer) await(most int) {
	if most < little {
		g.attend()
		return
	}
	g.set(min(most, much))
	if g.timer == nil {
		g.timer = time.AfterFunc(patience, g.attend)
		return
	}
	g.timer.Reset(patience)
}

// arrived is called after it. If it is too late to stop the timer, less is waited for
// the next time.
func (g *gatherer) arrived() {
	if g.timer != nil {
		g.timer.Stop()
	}
}

// end leaves the connection as it was.
func (g *gatherer) end() {
	g.arrived()
	g.attend()
}

// attend has the connection readable when anything is.
func (g *gatherer) attend() { g.set(0) }

func (g *gatherer) set(mark int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mark != mark {
		g.mark = mark
		setLowWater(g.raw, max(1, mark))
	}
}
