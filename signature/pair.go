package signature

import (
	"bytes"
	"encoding/asn1"
	"math/big"
)

// A pair is the DER SEQUENCE of two INTEGERs that DSA and ECDSA signatures are
// (RFC 3279, section 2.2).
type pair struct{ R, S *big.Int }

const signWithOpenSSL = "sign with `countersign sign` or `openssl dgst -sign`, which write DER, and pass the output whole"

// parsePair reads a signature for a group of the given order. It takes no
// other encoding than the one marshal makes.
func parsePair(sig []byte, order *big.Int) (pair, error) {
	var rs pair
	rest, err := asn1.Unmarshal(sig, &rs)
	if err != nil {
		if len(sig) == 2*((order.BitLen()+7)/8) {
			return pair{}, invalidSignature(signWithOpenSSL,
				"is not DER; its %d bytes look like the raw form r||s (IEEE P1363) that some libraries write", len(sig))
		}
		return pair{}, invalidSignature(signWithOpenSSL, "is not the DER encoding of a DSA or ECDSA signature")
	}
	if len(rest) > 0 {
		return pair{}, invalidSignature(signWithOpenSSL, "has %d bytes after the end of its DER encoding", len(rest))
	}
	canonical, err := rs.marshal()
	if err != nil || !bytes.Equal(canonical, sig) {
		return pair{}, invalidSignature(signWithOpenSSL, "is not in the one DER encoding its numbers have")
	}
	for _, number := range []*big.Int{rs.R, rs.S} {
		if number.Sign() <= 0 || number.Cmp(order) >= 0 {
			return pair{}, invalidSignature("set "+PropertyCertificate+" to the certificate of the key that signed, or sign again",
				"has a number outside the range of the certificate's key, and so cannot be made by it")
		}
	}
	return rs, nil
}

func (rs pair) marshal() ([]byte, error) { return asn1.Marshal(rs) }
