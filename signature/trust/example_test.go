package trust_test

import (
	"fmt"
	"time"

	"github.com/countersign/countersign/signature/trust"
)

func ExampleSet_Verify() {
	root := issue(nil, authority("Acme Root"))
	signing := issue(root, authority("Acme Image Signing"))
	builder := issue(signing, signer("Builder"))

	set, err := trust.New(trust.Config{Certificates: []trust.Entry{
		{Source: "root.pem", Data: root.pem()},
		{Source: "signing.pem", Data: signing.pem()},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	report := set.Verify(must(parse(builder)), at, at)
	for _, node := range report.Path {
		fmt.Println(node.Subject)
	}
	// Output:
	// CN=Builder
	// CN=Acme Image Signing
	// CN=Acme Root
}
