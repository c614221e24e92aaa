package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy/receipt"
)

// receiptKeys are the keys that receipts are signed and verified with, from
// their files. They are swapped whole. Whoever opens them owns the goroutine
// that watches.
type receiptKeys struct {
	current atomic.Pointer[receipt.Keys] // nil: none are configured
	paths   []string
	log     zerolog.Logger

	seen   string // what the files held; owned by the watching goroutine after open
	failed atomic.Pointer[error]
}

// openReceiptKeys reads the keys, and goes on looking at their files until ctx
// ends, as openPolicy does. Files that are set but cannot be read, or are wrong,
// are an error now; later the last good keys stay in force.
func openReceiptKeys(ctx context.Context, cfg config.Config, log zerolog.Logger) (*receiptKeys, error) {
	k := &receiptKeys{paths: cfg.ReceiptKeyFiles, log: log}
	if len(k.paths) == 0 {
		return k, nil
	}
	if err := k.look(); err != nil {
		return nil, fmt.Errorf("receipt keys: %w", err)
	}
	go k.watch(ctx, cfg.PolicyInterval)
	return k, nil
}

// Keys implements what proxy.Config.Receipts asks for: nil if none are
// configured.
func (k *receiptKeys) Keys() *receipt.Keys { return k.current.Load() }

// watch ends with ctx.
func (k *receiptKeys) watch(ctx context.Context, interval time.Duration) {
	look := time.NewTicker(interval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if err := k.look(); err != nil {
				k.keep(err)
			}
		}
	}
}

// look reads the files, and takes what they hold where that is new. All files
// have to be good: half of a rotation is none.
func (k *receiptKeys) look() error {
	var texts [][]byte
	var all string
	for _, path := range k.paths {
		text, err := os.ReadFile(path)
		if err != nil {
			k.seen = "" // so that what is there next counts, were it the same
			return err
		}
		if _, err := receipt.ParseKeys(text); err != nil {
			k.seen = ""
			return fmt.Errorf("%s: %w", path, err)
		}
		texts = append(texts, text)
		all += string(text) + "\x00"
	}
	if all == k.seen {
		return nil
	}
	keys, err := receipt.ParseKeys(texts...)
	if err != nil {
		return err
	}
	k.seen = all
	k.current.Store(keys)
	k.failed.Store(nil)
	k.log.Info().Strs("files", k.paths).Strs("ids", keys.IDs()).Str("signing", keys.SigningID()).Msg("receipt keys in force")
	return nil
}

// keep goes on with the last good keys, loudly.
func (k *receiptKeys) keep(err error) {
	if before := k.failed.Swap(&err); before == nil || (*before).Error() != err.Error() {
		k.log.Error().Err(err).Msg("a receipt key file is wrong: the last good keys stay in force")
	}
}

// problem is why receipts are not signed with the keys in the files, or nil.
func (k *receiptKeys) problem() error {
	keys := k.Keys()
	switch failed := k.failed.Load(); {
	case failed != nil:
		return *failed
	case keys == nil:
		return errors.New("none is configured (COUNTERSIGN_RECEIPT_KEY_FILES): no receipt is written, and whatever wants one is refused")
	case !keys.CanSign():
		return errors.New("all of them are public ones: receipts are verified, and none is written")
	}
	return nil
}

// measure registers what operators watch.
func (k *receiptKeys) measure(registry prometheus.Registerer) {
	gauge := func(name, help string, value func() bool) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if value() {
				return 1
			}
			return 0
		}))
	}
	gauge("countersign_receipt_signing", "1 if there is a key to sign receipts with.", func() bool { return k.Keys().CanSign() })
	gauge("countersign_receipt_keys_current", "1 if the receipt keys in force are those in the files.", func() bool { return k.failed.Load() == nil })
}
