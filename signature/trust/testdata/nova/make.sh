#!/bin/bash
# make.sh: the four certificates of Nova's document "Image Signature Certificate Validation", by its own commands, save
# that openssl ca is not asked (-batch). The root is of 1024 bits and lives for 30 days, as the document has it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

touch index.txt
echo '01' > serial.txt
cp "$here/ca.conf" .

openssl req -x509 -nodes -newkey rsa:1024 -config ca.conf -keyout key_ca.pem -out cert_ca.pem

openssl req -nodes -newkey rsa:2048 -subj '/CN=First Intermediate Certificate' \
	-keyout key_intermediate_a.pem -out cert_intermediate_a.csr
openssl ca -batch -config ca.conf -extensions intermediate_cert_extensions -cert cert_ca.pem -keyfile key_ca.pem \
	-out cert_intermediate_a.pem -infiles cert_intermediate_a.csr

openssl req -nodes -newkey rsa:2048 -subj '/CN=Second Intermediate Certificate' \
	-keyout key_intermediate_b.pem -out cert_intermediate_b.csr
openssl ca -batch -config ca.conf -extensions intermediate_cert_extensions -cert cert_intermediate_a.pem -keyfile key_intermediate_a.pem \
	-out cert_intermediate_b.pem -infiles cert_intermediate_b.csr

openssl req -nodes -newkey rsa:2048 -subj '/CN=Client Certificate' -keyout key_client.pem -out cert_client.csr
openssl ca -batch -config ca.conf -extensions client_cert_extensions -cert cert_intermediate_b.pem -keyfile key_intermediate_b.pem \
	-out cert_client.pem -infiles cert_client.csr

cp cert_ca.pem cert_intermediate_a.pem cert_intermediate_b.pem cert_client.pem "$here"
