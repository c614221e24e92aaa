package main

import (
	"log"
	"strings"

	"github.com/rs/zerolog"
)

// newServerLog takes what a server itself has to say: broken handshakes, and
// panics, which must not pass unseen.
func newServerLog(to zerolog.Logger) *log.Logger {
	return log.New(serverLog{to}, "", 0)
}

type serverLog struct{ to zerolog.Logger }

func (s serverLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if strings.Contains(text, "panic") {
		s.to.Error().Msg(text)
	} else {
		s.to.Debug().Msg(text)
	}
	return len(line), nil
}
