#!/bin/sh
# Makes the fixtures of this folder anew with OpenSSL 3. They hold what Go
# cannot make itself, or what should come from other hands. The keys are
# thrown away, save those that the tests need in a file.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf 'image data, signed by openssl\n' >image

certify() { # certify NAME [options]: a certificate for $work/NAME.key
	name=$1
	shift
	openssl req -x509 -key "$work/$name.key" -subj "/O=Example/CN=$name" -days 36500 -out "$name.crt" "$@"
}
sign() { # sign NAME HASH [options]
	name=$1 hash=$2
	shift 2
	openssl dgst "-$hash" -sign "$work/$name.key" -out "$name.$hash.sig" "$@" image
}

openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/rsa.key"
certify rsa
sign rsa sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:max
sign rsa sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest
sign rsa sha224 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:0

cp "$work/rsa.key" "$work/mgf1.key"
certify mgf1
sign mgf1 sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:max -sigopt rsa_mgf1_md:sha1

for bits in 1024:160 2048:256; do
	name=dsa${bits%:*}
	openssl genpkey -quiet -genparam -algorithm DSA -pkeyopt "dsa_paramgen_bits:${bits%:*}" \
		-pkeyopt "dsa_paramgen_q_bits:${bits#*:}" -out "$work/$name.param"
	openssl genpkey -quiet -paramfile "$work/$name.param" -out "$work/$name.key"
	certify "$name"
	for hash in sha224 sha256 sha384 sha512; do sign "$name" "$hash"; done
done
cp "$work/dsa2048.key" dsa2048.pkcs8.pem
openssl dsa -in "$work/dsa2048.key" -out dsa2048.traditional.pem
openssl pkcs8 -topk8 -in "$work/dsa1024.key" -passout pass:secret -out encrypted.pkcs8.pem
openssl dsa -in "$work/dsa1024.key" -aes128 -passout pass:secret -out encrypted.traditional.pem
openssl pkcs8 -in encrypted.pkcs8.pem -passin pass:secret -topk8 -passout pass:secret -outform DER -out encrypted.pkcs8.der

for curve in secp384r1 secp521r1 prime256v1 brainpoolP384r1 sect409k1 sect409r1 sect571k1 sect571r1; do
	openssl ecparam -genkey -name "$curve" -out "$work/$curve.key"
	certify "$curve"
done
sign secp384r1 sha384
sign secp521r1 sha512
cp "$work/secp384r1.key" secp384r1.ecparam.pem
sign sect409k1 sha512
sign sect409r1 sha384
sign sect409r1 sha512
sign sect571k1 sha224
sign sect571r1 sha256
openssl pkcs8 -topk8 -nocrypt -in "$work/sect409k1.key" -out sect409k1.pkcs8.pem
cp "$work/sect571r1.key" sect571r1.ecparam.pem

# What crypto/x509 does not parse.
openssl ec -in "$work/secp384r1.key" -conv_form compressed -out "$work/compressed.key"
certify compressed
openssl ec -in "$work/secp384r1.key" -param_enc explicit -out "$work/explicit.key"
certify explicit
openssl ec -in "$work/sect571r1.key" -conv_form compressed -out "$work/sectcompressed.key"
certify sectcompressed
openssl ec -in "$work/sect409k1.key" -param_enc explicit -out "$work/sectexplicit.key"
certify sectexplicit
cp "$work/sectexplicit.key" sectexplicit.pem
cp "$work/rsa.key" "$work/negative.key"
certify negative -set_serial -5
openssl genpkey -quiet -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out "$work/rsapss.key"
certify rsapss
sign rsapss sha256 -sigopt rsa_pss_saltlen:max
openssl genpkey -quiet -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha256 \
	-pkeyopt rsa_pss_keygen_mgf1_md:sha256 -pkeyopt rsa_pss_keygen_saltlen:32 -out "$work/restricted.key"
certify restricted
openssl genpkey -quiet -algorithm ED448 -out "$work/ed448.key"
certify ed448
openssl x509 -in rsa.crt -trustout -out trusted.crt
