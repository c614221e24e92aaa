package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy"
)

func newScan() *cobra.Command {
	var s scanCommand
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Look at the images that are there already",
		Long: `Look at the active images of all projects under rules that enforce, and find those
without a valid receipt: from before the first day, uploaded past the proxy, or left
by an upload that was interrupted. Their data is read back from Glance and verified,
where the certificate can be had, and they get a receipt. The others are reported, and
the rule's "unverified:" says what becomes of them: by default nothing. What cannot be
decided is never touched.

It is configured as "countersign serve" is, by the same environment variables; run it
where that runs, or with an administrator's credential. It needs the role admin.

With --audited, images under rules that audit are looked at, too, and left as they are:
what it prints is what enforcing would mean for them.

With --signed-by, it lists the images that a certificate signed, as their receipts say;
with --deactivate beside it, it takes them out of use.

It may be interrupted and run again at any time: what has a receipt is not read again.

The exit code is 0 if every image is as it should be, 1 if some would be refused or
something could not be done, and 2 if it could not be found out about all.`,
		Example: `  # What would enforcing mean?
  countersign scan --audited --dry-run

  # For a spreadsheet
  countersign scan --audited --dry-run --format csv > inventory.csv

  # Write receipts, and do what the rules say
  countersign scan

  # A signer's key is lost
  countersign scan --signed-by 5f2c…e1 --dry-run
  countersign scan --signed-by 5f2c…e1 --deactivate`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&s.scan.Audited, "audited", false, "look at images under rules that audit, too")
	flags.StringArrayVar(&s.scan.Projects, "project", nil, "look only at images of the project with this `id`; may be repeated")
	flags.StringArrayVar(&s.scan.Images, "image", nil, "look only at the image with this `UUID`, be it deactivated; may be repeated")
	flags.StringVar(&s.scan.SignedBy, "signed-by", "", "list the images signed with the certificate that has this SHA-256 `fingerprint`")
	flags.BoolVar(&s.scan.Deactivate, "deactivate", false, "with --signed-by: deactivate them")
	flags.BoolVar(&s.scan.DryRun, "dry-run", false, "change nothing, and say what would be done")
	flags.IntVar(&s.scan.Concurrency, "concurrency", 0, "`number` of images to read at a time (default: COUNTERSIGN_SCAN_CONCURRENCY)")
	flags.StringVar(&s.format, "format", "table", "`form` of the output: table, json or csv")
	flags.BoolVar(&s.all, "all", false, "list images that are as they should be, too")
	for _, err := range []error{
		cmd.RegisterFlagCompletionFunc("project", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("image", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("signed-by", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("concurrency", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]cobra.Completion{"table", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp)),
	} {
		if err != nil {
			panic("scan: " + err.Error()) // a flag above is misspelt
		}
	}
	return cmd
}

// scanCommand is one run of scan, as the flags say.
type scanCommand struct {
	scan   proxy.Scan
	format string
	all    bool
}

func (s *scanCommand) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if err := s.check(); err != nil {
		return err
	}
	cfg, err := config.Load(config.Environ())
	if err != nil {
		return err
	}
	if s.scan.Concurrency == 0 {
		s.scan.Concurrency = cfg.ScanConcurrency
	}
	out, err := newScanOutput(cmd.OutOrStdout(), s.format, s.scan.DryRun)
	if err != nil {
		return err
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: cmd.ErrOrStderr(), TimeFormat: time.TimeOnly}).Level(zerolog.WarnLevel)
	handler, receipts, err := newScanner(ctx, cfg, log)
	if err != nil {
		return err
	}
	switch {
	case s.scan.SignedBy != "" && receipts.Keys() == nil:
		return errors.New("--signed-by goes by receipts, and no receipt key is configured (COUNTERSIGN_RECEIPT_KEY_FILES)")
	case s.scan.SignedBy == "" && receipts.problem() != nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "receipt keys: %v\n", receipts.problem())
	}
	bar := newScanBar(cmd)
	var summary proxy.ScanSummary
	examples := map[string]string{} // a reason's code → a sentence about it
	s.scan.Read = bar.read
	s.scan.Report = func(f proxy.Finding) {
		summary.Add(f)
		if f.Reason != nil && examples[f.Reason.Code] == "" {
			examples[f.Reason.Code] = problem(f.Reason)
		}
		good := f.Verdict == proxy.Vouched || f.Verdict == proxy.Verified && f.Action != proxy.Failed
		if s.all || !good || f.Action == proxy.Repaired {
			bar.hide()
			out.write(f)
		}
		bar.saw(summary.Images)
	}
	err = s.scan.Run(ctx, handler)
	bar.hide()
	if err := errors.Join(out.close(), out.err); err != nil {
		return err
	}
	if s.scan.SignedBy == "" {
		summarize(s.summaryTo(cmd), summary, examples)
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	return result(summary, err)
}

// check refuses flags that contradict one another.
func (s *scanCommand) check() error {
	s.scan.SignedBy = strings.ToLower(strings.ReplaceAll(s.scan.SignedBy, ":", ""))
	switch digest, err := hex.DecodeString(s.scan.SignedBy); {
	case s.scan.SignedBy != "" && (err != nil || len(digest) != 32):
		return errors.New("--signed-by is no SHA-256 fingerprint: 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` shows them")
	case s.scan.Deactivate && s.scan.SignedBy == "":
		return errors.New("--deactivate is for --signed-by; what becomes of unverified images is said by the rules")
	case s.scan.SignedBy != "" && s.scan.Audited:
		return errors.New("--signed-by looks at all images, whatever rule they are under; leave out --audited")
	case len(s.scan.Images) > 0 && len(s.scan.Projects) > 0:
		return errors.New("--image and --project are two ways to choose; give one of them")
	case s.scan.Concurrency < 0 || s.scan.Concurrency > config.MaxScanConcurrency:
		return fmt.Errorf("--concurrency %d is not from 1 to %d", s.scan.Concurrency, config.MaxScanConcurrency)
	}
	for _, id := range s.scan.Images {
		if !isImageID(id) {
			return fmt.Errorf("--image %q is no UUID", id)
		}
	}
	return nil
}

// newScanner is a proxy that serves nobody: the same eyes and hands.
func newScanner(ctx context.Context, cfg config.Config, log zerolog.Logger) (*proxy.Proxy, *receiptKeys, error) {
	identities := newKeystone(cfg, nil)
	keys := newCertificates(cfg, identities)
	policies, err := openPolicy(ctx, cfg, identities, keys.anchors, log)
	if err != nil {
		return nil, nil, err
	}
	go keys.anchors.Run(ctx) // ends with ctx
	receipts, err := openReceiptKeys(ctx, cfg, log)
	if err != nil {
		return nil, nil, err
	}
	return proxy.New(proxy.Config{
		Glance:        cfg.GlanceURL,
		Transport:     newTransport(glanceDialer{&cfg}),
		Policies:      policies,
		Certificates:  keys,
		Identities:    identities,
		Receipts:      receipts,
		PropertyQuota: cfg.GlancePropertyQuota,
		SettleTimeout: cfg.SettleTimeout,
		StallTimeout:  cfg.StallTimeout,
		MaxBody:       int64(cfg.MaxBody),
		Log:           log,
	}), receipts, nil
}

// result is what the exit code says.
func result(summary proxy.ScanSummary, err error) error {
	refused, failed, undecided := summary.Verdicts[proxy.Refused], summary.Actions[proxy.Failed], summary.Verdicts[proxy.Undecided]
	switch {
	case err != nil:
		return fmt.Errorf("not all images were looked at: %w", cause(err))
	case failed > 0:
		return &verdict{fmt.Errorf("%s could not be dealt with", images(failed))}
	case refused > 0:
		return &verdict{fmt.Errorf("%s would be refused", images(refused))}
	case undecided > 0:
		return fmt.Errorf("nobody can tell about %s", images(undecided))
	}
	return nil
}

// cause is what operators want to know, and clients are not told.
func cause(err error) error {
	var refused *proxy.Refusal
	if errors.As(err, &refused) && refused.Err != nil {
		return refused.Err
	}
	return err
}

// scanBar tells somebody who looks on that it goes on. It is drawn on a terminal
// only.
type scanBar struct {
	mu  sync.Mutex               // held while it is drawn: the library does not look to that
	bar *progressbar.ProgressBar // nil: nobody looks on
}

func newScanBar(cmd *cobra.Command) *scanBar {
	terminal, isFile := cmd.ErrOrStderr().(*os.File)
	if !isFile || !term.IsTerminal(int(terminal.Fd())) {
		return new(scanBar)
	}
	return &scanBar{bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(terminal),
		progressbar.OptionSetDescription("scanning"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetSpinnerChangeInterval(0), // else it draws by itself, too
		progressbar.OptionClearOnFinish(),
	)}
}

func (b *scanBar) read(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Add(n) // a bar that cannot be drawn is no reason to stop
	}
}

func (b *scanBar) saw(count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.bar.Describe("scanning: " + images(count))
	}
}

// hide makes room for a line.
func (b *scanBar) hide() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

func images(n int) string {
	if n == 1 {
		return "1 image"
	}
	return fmt.Sprintf("%d images", n)
}
