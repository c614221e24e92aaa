package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// vouch KEY CERTIFICATE IMAGE KIND is a command of the scripts: it prints the
// image, which is described in a JSON file, with a receipt of that kind among
// its properties. A certificate "-" is none.
func vouch() {
	keys := must(receipt.ParseKeys(must(os.ReadFile(os.Args[1]))))
	data := must(os.ReadFile(os.Args[3]))
	img := must(describeImage(data))
	r := receipt.Receipt{
		Image: img.subject.Image, Owner: img.subject.Owner, Size: img.subject.Size,
		Digests:  map[string]string{"SHA-256": "733c7b24"},
		HashAlgo: img.subject.HashAlgo, HashValue: img.subject.HashValue, Properties: img.subject.Properties,
		Rule: "production", Mode: "enforce", Kind: receipt.Kind(os.Args[4]),
		IssuedAt: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC),
	}
	if os.Args[2] != "-" {
		block, _ := pem.Decode(must(os.ReadFile(os.Args[2])))
		r.Certificate = block.Bytes
	}
	if r.Kind == receipt.Exempt {
		r.Service = "nova \x1b[31m"
	}
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		panic(err)
	}
	properties, nested := members["properties"].(map[string]any)
	if !nested {
		properties = members
	}
	properties[receipt.Property] = must(keys.Sign(r))
	fmt.Printf("%s\n", must(json.MarshalIndent(members, "", "  ")))
}
