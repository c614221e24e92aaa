//go:build e2e

package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// document is an example of OpenStack's own, typed by a user into a shell: the
// commands as they are printed, and what had to be changed because it cannot
// run here and today.
type document struct {
	name    string
	image   string // the name of the image that is made
	file    string // the image's data
	prepare string // up to the signature
	create  string // the command that uploads
	edits   []edit
}

// edit replaces each before, of which there must be at least one.
type edit struct{ before, after, why string }

const (
	whyInteractive = "openssl asks questions; the answers are those that the document prints"
	whyFormat      = "Glance 2025.1 looks into the data and refuses (415) what is no qcow2"
	whyExpired     = "Barbican takes no expiration that has passed"
	whyUUID        = "the UUID is the one that Barbican has just given"
)

var documents = []document{
	// Glance: user/signature (Image Signature Verification).
	{
		name: "Glance", image: "mySignedImage", file: "myimage",
		prepare: `
openssl genrsa -out private_key.pem 1024
openssl rsa -pubout -in private_key.pem -out public_key.pem
openssl req -new -key private_key.pem -out cert_request.csr
openssl x509 -req -days 14 -in cert_request.csr -signkey private_key.pem -out new_cert.crt
openstack secret store --name test --algorithm RSA --expiration 2016-06-29 --secret-type certificate --payload-content-type "application/octet-stream"
cert_uuid=cd7cc675-e573-419c-8fff-33a72734a243
echo This is a dodgy image > myimage
openssl dgst -sha256 -sign private_key.pem -sigopt rsa_padding_mode:pss -out myimage.signature myimage
base64 -w 0 myimage.signature > myimage.signature.b64
image_signature=$(cat myimage.signature.b64)
`,
		create: `glance image-create --name mySignedImage --container-format bare --disk-format qcow2 --property img_signature="$image_signature" --property`,
		edits: []edit{
			{`-out cert_request.csr`, `-out cert_request.csr -subj "/C=AU/ST=Some-State/O=Internet Widgits Pty Ltd"`, whyInteractive},
			{`--expiration 2016-06-29`, `--expiration 2036-06-29`, whyExpired},
			{`--payload-content-type "application/octet-stream"`,
				`--payload-content-type "application/octet-stream" --payload-content-encoding base64 --payload "$(base64 new_cert.crt)" | tee secret`,
				"the document stores a secret without the certificate; the glance-operator document has the missing payload"},
			{`cert_uuid=cd7cc675-e573-419c-8fff-33a72734a243`, `cert_uuid=$(grep -o '[0-9a-f]\{8\}-[0-9a-f-]\{27\}' secret)`, whyUUID},
			{`--disk-format qcow2`, `--disk-format raw`, whyFormat},
			{`--property img_signature="$image_signature" --property`,
				`--property img_signature="$image_signature" --property img_signature_certificate_uuid="$cert_uuid" --property img_signature_hash_method='SHA-256' --property img_signature_key_type='RSA-PSS' < myimage`,
				"the line is cut off in the copy of the document; its end is the glance-operator document's"},
		},
	},
	// glance-operator: Image Signature Verification. RSA of 1024 bits with
	// SHA-512: there is no room for openssl's usual salt of 64 bytes, so it
	// takes the 62 that fit, and these count here as anywhere.
	{
		name: "glance-operator", image: "mySignedImage", file: "myimage",
		prepare: `
openssl genrsa -out private_key.pem 1024
openssl rsa -pubout -in private_key.pem -out public_key.pem
openssl req -new -key private_key.pem -out cert_request.csr
openssl x509 -req -days 14 -in cert_request.csr -signkey private_key.pem -out new_cert.crt
openstack secret store --name test --algorithm RSA --secret-type certificate \
  --payload-content-type "application/octet-stream" \
  --payload-content-encoding base64 \
  --payload "$(base64 new_cert.crt)"
cert_uuid=cd7cc675-e573-419c-8fff-33a72734a243
echo This is a dodgy image > myimage
openssl dgst -sha512 -sign private_key.pem -sigopt rsa_padding_mode:pss -out myimage.signature myimage
base64 -w 0 myimage.signature > myimage.signature.b64
image_signature=$(cat myimage.signature.b64)
cat myimage.signature.b64
`,
		create: `glance --os-auth-url {{ KeystoneAuthUrl }} \
         --os-project-name {{ project }} --os-username {{ user }} --os-password {{ pwd }} \
         --os-user-domain-name default --os-project-domain-name default \
         image-create --name mySignedImage --container-format bare --disk-format qcow2 \
         --property img_signature="$image_signature" --property img_signature_certificate_uuid="$cert_uuid" \
         --property img_signature_hash_method='SHA-512' --property img_signature_key_type='RSA-PSS' < myimage`,
		edits: []edit{
			{`-out cert_request.csr`, `-out cert_request.csr -subj "/C=AU/ST=Some-State/O=Internet Widgits Pty Ltd"`, whyInteractive},
			{`--payload "$(base64 new_cert.crt)"`, `--payload "$(base64 new_cert.crt)" | tee secret`, whyUUID},
			{`cert_uuid=cd7cc675-e573-419c-8fff-33a72734a243`, `cert_uuid=$(grep -o '[0-9a-f]\{8\}-[0-9a-f-]\{27\}' secret)`, whyUUID},
			{`{{ KeystoneAuthUrl }}`, `$OS_AUTH_URL`, "the document says to replace it"},
			{`{{ project }}`, `$OS_PROJECT_NAME`, "the document says to replace it"},
			{`{{ user }}`, `$OS_USERNAME`, "the document says to replace it"},
			{`{{ pwd }}`, `$OS_PASSWORD`, "the document says to replace it"},
			{`--os-user-domain-name default --os-project-domain-name default`, `--os-user-domain-name Default --os-project-domain-name Default`,
				"names of domains are compared with regard to case on this database"},
			{`--disk-format qcow2`, `--disk-format raw`, whyFormat},
		},
	},
	// Nova: user/certificate-validation (Image Signature Certificate
	// Validation). What it does with `nova boot` is out of reach: there is no
	// Nova here. Its role commands have been run when the stack came up.
	{
		name: "Nova", image: "cirros_client_signedImage", file: "cirros.tar.gz",
		prepare: `
touch index.txt
echo '01' > serial.txt
cat > ca.conf <<'END'
[ req ]
prompt             = no
distinguished_name = dn-param
x509_extensions    = ca_cert_extensions

[ ca ]
default_ca = ca_default

[ dn-param ]
C  = US
CN = Root CA

[ ca_cert_extensions ]
keyUsage         = keyCertSign, digitalSignature
basicConstraints = CA:TRUE, pathlen:2

[ ca_default ]
new_certs_dir = .              # Location for new certs after signing
database      = ./index.txt    # Database index file
serial        = ./serial.txt   # The current serial number

default_days  = 1000
default_md    = sha256

policy        = signing_policy
email_in_dn   = no

[ intermediate_cert_extensions ]
keyUsage         = keyCertSign, digitalSignature
basicConstraints = CA:TRUE, pathlen:1

[client_cert_extensions]
keyUsage         = keyCertSign, digitalSignature
basicConstraints = CA:FALSE

[ signing_policy ]
countryName            = optional
stateOrProvinceName    = optional
localityName           = optional
organizationName       = optional
organizationalUnitName = optional
commonName             = supplied
emailAddress           = optional
END
openssl req \
    -x509 \
    -nodes \
    -newkey rsa:1024 \
    -config ca.conf \
    -keyout key_ca.pem \
    -out cert_ca.pem
openssl req \
    -nodes \
    -newkey rsa:2048 \
    -subj '/CN=First Intermediate Certificate' \
    -keyout key_intermediate_a.pem \
    -out cert_intermediate_a.csr
openssl ca \
    -config ca.conf \
    -extensions intermediate_cert_extensions \
    -cert cert_ca.pem \
    -keyfile key_ca.pem \
    -out cert_intermediate_a.pem \
    -infiles cert_intermediate_a.csr
openssl req \
    -nodes \
    -newkey rsa:2048 \
    -subj '/CN=Second Intermediate Certificate' \
    -keyout key_intermediate_b.pem \
    -out cert_intermediate_b.csr
openssl ca \
    -config ca.conf \
    -extensions intermediate_cert_extensions \
    -cert cert_intermediate_a.pem \
    -keyfile key_intermediate_a.pem \
    -out cert_intermediate_b.pem \
    -infiles cert_intermediate_b.csr
openssl req \
    -nodes \
    -newkey rsa:2048 \
    -subj '/CN=Client Certificate' \
    -keyout key_client.pem \
    -out cert_client.csr
openssl ca \
    -config ca.conf \
    -extensions client_cert_extensions \
    -cert cert_intermediate_b.pem \
    -keyfile key_intermediate_b.pem \
    -out cert_client.pem \
    -infiles cert_client.csr
openstack secret store \
    --name CA \
    --algorithm RSA \
    --expiration 2018-06-29 \
    --secret-type certificate \
    --payload-content-type "application/octet-stream" \
    --payload-content-encoding base64 \
    --payload "$(base64 cert_ca.pem)"
openstack secret store \
    --name IntermediateA \
    --algorithm RSA \
    --expiration 2018-06-29 \
    --secret-type certificate \
    --payload-content-type "application/octet-stream" \
    --payload-content-encoding base64 \
    --payload "$(base64 cert_intermediate_a.pem)"
openstack secret store \
    --name IntermediateB \
    --algorithm RSA \
    --expiration 2018-06-29 \
    --secret-type certificate \
    --payload-content-type "application/octet-stream" \
    --payload-content-encoding base64 \
    --payload "$(base64 cert_intermediate_b.pem)"
openstack secret store \
    --name Client \
    --algorithm RSA \
    --expiration 2018-06-29 \
    --secret-type certificate \
    --payload-content-type "application/octet-stream" \
    --payload-content-encoding base64 \
    --payload "$(base64 cert_client.pem)"
cert_client_uuid=125e6199-2de4-46e3-b091-8e2401ef0d63
wget -nc -O cirros.tar.gz http://download.cirros-cloud.net/0.3.5/cirros-0.3.5-source.tar.gz
openssl dgst \
    -sha256 \
    -sign key_client.pem \
    -sigopt rsa_padding_mode:pss \
    -out cirros.self_signed.signature \
    cirros.tar.gz
base64_signature=$(base64 -w 0 cirros.self_signed.signature)
`,
		create: `openstack image create \
    --public \
    --container-format bare \
    --disk-format qcow2 \
    --property img_signature="$base64_signature" \
    --property img_signature_certificate_uuid="$cert_client_uuid" \
    --property img_signature_hash_method='SHA-256' \
    --property img_signature_key_type='RSA-PSS' \
    --file cirros.tar.gz \
    cirros_client_signedImage`,
		edits: []edit{
			{`openssl ca \`, `openssl ca -batch \`, whyInteractive},
			{`--expiration 2018-06-29`, `--expiration 2036-06-29`, whyExpired},
			{`--payload "$(base64 cert_client.pem)"`, `--payload "$(base64 cert_client.pem)" | tee secret`, whyUUID},
			{`cert_client_uuid=125e6199-2de4-46e3-b091-8e2401ef0d63`, `cert_client_uuid=$(grep -o '[0-9a-f]\{8\}-[0-9a-f-]\{27\}' secret)`, whyUUID},
			{`wget -nc -O cirros.tar.gz http://download.cirros-cloud.net/0.3.5/cirros-0.3.5-source.tar.gz`,
				`head -c 434333 /dev/urandom > cirros.tar.gz`, "nothing is fetched from the internet; a file of the same size does"},
			{`--public \`, `\`, "Glance lets only an administrator make an image public"},
			{`--disk-format qcow2`, `--disk-format raw`, whyFormat},
		},
	},
}

// script is the example as it is typed here.
func (d document) script(t *testing.T) (prepare, create string) {
	t.Helper()
	prepare, create = d.prepare, d.create
	for _, e := range d.edits {
		if !strings.Contains(prepare+create, e.before) {
			t.Errorf("the document has no %q to replace", e.before)
		}
		prepare = strings.ReplaceAll(prepare, e.before, e.after)
		create = strings.ReplaceAll(create, e.before, e.after)
	}
	return prepare, create
}

// TestTheDocumentsExamplesWork types the examples of the three documents, and
// then changes the image, to see what all three promise and Glance alone does
// not do: the upload fails and the image is deleted.
func TestTheDocumentsExamplesWork(t *testing.T) {
	for i, d := range documents {
		glance := servers[i%len(servers)] // in turns: the commands take their time
		t.Run(d.name+" under "+glance.name, func(t *testing.T) {
			p := startProxy(t, glance, policy)
			c := login(t, "demo", p.url)
			straight := c.at(glance.url())
			forget(t, straight, d.image)
			t.Cleanup(func() { forget(t, straight, d.image) })
			prepare, create := d.script(t)
			mustRun(c, "bash", "-euc", strings.Join([]string{
				"cd " + t.TempDir(), prepare, create,
				"echo tampered >> " + d.file,
				"if " + create + "; then echo 'the tampered image was taken'; exit 1; fi",
			}, "\n"))
			images := named(t, straight, d.image)
			if len(images) != 1 || images[0].status() != "active" {
				t.Errorf("Glance has %v, want one active image of the name", images)
			}
		})
	}
}

// named are the images of a name that the user sees.
func named(t *testing.T, c *client, name string) []image {
	request, err := http.NewRequest("GET", c.images+"/v2/images?name="+url.QueryEscape(name), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.token)
	response, err := http.DefaultClient.Do(request) // also when the test's own context has ended
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list struct{ Images []image }
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		t.Fatalf("list of images: %v", err)
	}
	return list.Images
}
