package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/config"
)

// measureTLS registers when the certificates expire that we show to others: to
// clients, and to Glance. They are read again when their files change.
func measureTLS(registry prometheus.Registerer, cfg *config.Config) {
	for use, expires := range cfg.CertificateExpiries() {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "countersign_tls_expiry_timestamp_seconds",
			Help:        "When the certificate expires that is shown to clients (use=\"server\") or to Glance (glance_client), as Unix time.",
			ConstLabels: prometheus.Labels{"use": use},
		}, func() float64 { return float64(expires().Unix()) }))
	}
}
