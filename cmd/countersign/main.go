// Command countersign stands in front of an OpenStack Glance and enforces image
// signatures; it also makes and checks such signatures. It knows every
// constructor and decides nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set when a release is linked.
var version = "devel"

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // lasts as long as the process
		<-signals
		signal.Stop(signals) // before anybody hears of the first: a second signal ends the process at once
		cancel()
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// run is main without the process. It returns the exit code: 0 for yes, 1 for
// no, 2 for a question that could not be asked.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var no *verdict
	switch {
	case err == nil:
		return 0
	case errors.As(err, &no):
		fmt.Fprintln(root.ErrOrStderr(), no)
		return 1
	default:
		fmt.Fprintln(root.ErrOrStderr(), "countersign:", err)
		return 2
	}
}

// verdict is a no that was asked for, as opposed to a failure to find out.
type verdict struct{ error }

func (v *verdict) Unwrap() error { return v.error }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "countersign",
		Short: "Enforce image signatures in front of OpenStack Glance",
		Long: `Countersign is a reverse proxy in front of an existing OpenStack Glance. Clients
use it in place of Glance; image data that is uploaded is verified against the
image's signature while it streams on, and what does not satisfy its project's
policy never becomes an active image.

Run the proxy with "countersign serve". Sign an image with "countersign sign".

Commands, flags and their values complete in bash after
"source <(countersign completion bash)"; zsh, fish and powershell know it too. See
"countersign completion --help" to have it in every shell.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(newServe(), newKeygen(), newSign(), newVerify(), newReceipt(), newScan(), newPolicy(), newEndpoint(), newPing(), newConfig(), newVersion())
	return root
}
