package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// image is a file that is read as a stream, with a progress bar if somebody
// looks on.
type image struct {
	ctx    context.Context
	source io.Reader
	name   string

	file  *os.File // nil if the data cannot be read twice
	start int64    // where in file the data begins
	size  int64    // -1 if unknown

	errors io.Writer // where the bar goes
	bar    *progressbar.ProgressBar
}

// openImage opens the named file, or standard input for "-". A signature over
// half an image is worth less than none, so once the command is interrupted
// Read fails, even where the source has come to an end.
func openImage(cmd *cobra.Command, name string) (*image, error) {
	img := &image{ctx: cmd.Context(), name: name, size: -1, errors: cmd.ErrOrStderr()}
	if name == "-" {
		img.name = "standard input"
		img.source = cmd.InOrStdin()
	} else {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		img.source = file
	}
	file, isFile := img.source.(*os.File)
	if !isFile {
		return img, nil
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		_ = file.Close()
		return nil, fmt.Errorf("%s is a directory, not an image", img.name)
	}
	if term.IsTerminal(int(file.Fd())) {
		return nil, fmt.Errorf("%s is a terminal; give a file's name, or pipe the image in", img.name)
	}
	if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) != 0 {
		return img, nil
	}
	// Seeking finds the size of block devices too.
	begin, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return img, nil
	}
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return img, nil
	}
	img.file, img.start, img.size = file, begin, end-begin
	return img, img.rewind()
}

// repeatable reports whether the data can be read a second time.
func (img *image) repeatable() bool { return img.file != nil }

func (img *image) rewind() error {
	_, err := img.file.Seek(img.start, io.SeekStart)
	return err
}

// Close implements io.Closer.
func (img *image) Close() error {
	if closer, ok := img.source.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// show begins a bar that says what is being done, on a terminal only.
func (img *image) show(doing string) {
	terminal, isFile := img.errors.(*os.File)
	if !isFile || !term.IsTerminal(int(terminal.Fd())) {
		return
	}
	img.bar = progressbar.NewOptions64(img.size,
		progressbar.OptionSetWriter(img.errors),
		progressbar.OptionSetDescription(doing),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

// hide takes the bar away.
func (img *image) hide() {
	if img.bar != nil {
		_ = img.bar.Finish()
		img.bar = nil
	}
}

var errInterrupted = errors.New("interrupted")

// Read implements io.Reader.
func (img *image) Read(p []byte) (int, error) {
	n, err := img.source.Read(p)
	if img.ctx.Err() != nil {
		return 0, errInterrupted
	}
	if img.bar != nil {
		_ = img.bar.Add(n) // a bar that cannot be drawn is no reason to stop
	}
	return n, err
}
