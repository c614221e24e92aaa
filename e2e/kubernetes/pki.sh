# shellcheck shell=bash
# Who is who in the cluster: one authority, a certificate for each, and a kubeconfig for those that are clients.

make_pki() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj /CN=countersign-e2e \
		-keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
	openssl genrsa -out "$pki/sa.key" 2048 2>/dev/null
	openssl rsa -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
	local names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:$address,IP:127.0.0.1,IP:${services%.*}.1
	issue apiserver /CN=kube-apiserver serverAuth "$names"
	issue apiserver-kubelet /O=system:masters/CN=apiserver clientAuth
	issue kubelet /O=system:nodes/CN=system:node:node1 serverAuth,clientAuth "DNS:node1,IP:$address"
	issue controller-manager /CN=system:kube-controller-manager clientAuth
	issue scheduler /CN=system:kube-scheduler clientAuth
	issue proxy /CN=system:kube-proxy clientAuth
	issue admin /O=system:masters/CN=admin clientAuth
	local name
	for name in kubelet controller-manager scheduler proxy admin; do kubeconfig "$name"; done
}

issue() { # name subject usage [names]
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "$2" -keyout "$pki/$1.key" 2>/dev/null |
		openssl x509 -req -days 30 -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -out "$pki/$1.crt" \
			-extfile <(printf 'extendedKeyUsage=%s\n%s\n' "$3" "${4:+subjectAltName=$4}") 2>/dev/null
}

kubeconfig() { # name
	cat >"$pki/$1.kubeconfig" <<-END
		apiVersion: v1
		kind: Config
		current-context: e2e
		contexts: [{name: e2e, context: {cluster: e2e, user: $1}}]
		clusters: [{name: e2e, cluster: {server: "https://$address:6443", certificate-authority: $pki/ca.crt}}]
		users: [{name: $1, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}]
	END
	chmod 600 "$pki/$1.kubeconfig"
}
