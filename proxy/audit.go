package proxy

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Audit takes the events of the audit trail: one for each request that a rule
// had to decide about.
type Audit interface {
	// Record takes a CADF event, one JSON object without a line's end. It does
	// not block: the request's answer is on its way.
	Record(event []byte)
}

// cadfEvent is an event of the Cloud Auditing Data Federation (DMTF DSP0262
// 1.0.0, "Event"), with the attribute project_id that OpenStack's services add
// to its resources. It has no token, key or signature.
type cadfEvent struct {
	TypeURI     string           `json:"typeURI"`
	ID          string           `json:"id"`
	EventType   string           `json:"eventType"`
	EventTime   string           `json:"eventTime"`
	Action      string           `json:"action"`
	Outcome     string           `json:"outcome"`
	Initiator   cadfResource     `json:"initiator"`
	Target      cadfResource     `json:"target"`
	Observer    cadfResource     `json:"observer"`
	Reason      cadfReason       `json:"reason"` // which a control event has to have
	Attachments []cadfAttachment `json:"attachments"`
}

type cadfResource struct {
	TypeURI   string    `json:"typeURI"`
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"`
	ProjectID string    `json:"project_id,omitempty"`
	Host      *cadfHost `json:"host,omitempty"`
}

type cadfHost struct {
	Address string `json:"address"`
}

type cadfReason struct {
	ReasonType string `json:"reasonType"`
	ReasonCode string `json:"reasonCode"`
	PolicyType string `json:"policyType,omitempty"`
	PolicyID   string `json:"policyId,omitempty"`
}

type cadfAttachment struct {
	TypeURI string  `json:"typeURI"`
	Name    string  `json:"name"`
	Content details `json:"content"`
}

// details are what CADF has no words for. The names are the log's.
type details struct {
	RequestID     string `json:"request_id"`
	Method        string `json:"method"`
	Path          string `json:"path"`
	Status        int    `json:"status"`
	AuditOnly     bool   `json:"audit_only"`
	Mode          string `json:"mode,omitempty"`
	Until         string `json:"until,omitempty"`
	KeyType       string `json:"key_type,omitempty"`
	HashMethod    string `json:"hash_method,omitempty"`
	CertificateID string `json:"certificate_id,omitempty"`
	Signer        string `json:"signer,omitempty"`
	Bytes         int64  `json:"bytes,omitempty"`
	Digest        string `json:"digest,omitempty"`
	Property      string `json:"property,omitempty"`
	Caveat        string `json:"caveat,omitempty"`
	Cleanup       string `json:"cleanup,omitempty"`
}

// unknown is CADF's word for what cannot be told.
const unknown = "unknown"

// record is the event as the audit trail has it.
func (ev *event) record(observer string) []byte {
	e := cadfEvent{
		TypeURI:   "http://schemas.dmtf.org/cloud/audit/1.0/event",
		ID:        uuid.NewString(),
		EventType: "control",
		EventTime: time.Now().UTC().Format("2006-01-02T15:04:05.000000-0700"),
		Action:    ev.action,
		Outcome:   unknown,
		Initiator: cadfResource{TypeURI: unknown, ID: unknown},
		Target:    cadfResource{TypeURI: "service/storage/image", ID: unknown},
		// CADF wants ids by which resources are told apart: the same host has the same.
		Observer: cadfResource{TypeURI: "service/security", ID: uuid.NewSHA1(uuid.NameSpaceDNS, []byte(observer)).String(), Name: observer},
		Reason:   cadfReason{ReasonType: "HTTP", ReasonCode: strconv.Itoa(ev.status)},
	}
	if ev.outcome != "" {
		e.Outcome = ev.outcome
	}
	if ev.identity != nil {
		e.Initiator = cadfResource{TypeURI: "service/security/account/user", ID: ev.identity.UserID, Name: ev.identity.UserName,
			ProjectID: ev.identity.ProjectID}
	}
	if host, _, err := net.SplitHostPort(ev.client); err == nil {
		e.Initiator.Host = &cadfHost{host}
	}
	d := details{RequestID: ev.requestID, Method: ev.method, Path: ev.path, Status: ev.status, AuditOnly: ev.audited,
		Signer: ev.signer, Bytes: ev.bytes, Digest: hex.EncodeToString(ev.digest), Caveat: ev.caveat, Cleanup: ev.cleanup}
	if ev.image != nil {
		e.Target.ID, e.Target.ProjectID = ev.image.ID, ev.image.Owner
	}
	if ev.reason != nil {
		e.Reason.ReasonType, e.Reason.ReasonCode = "countersign", ev.reason.Code
		d.Property = ev.reason.Property
	}
	if ev.rule != nil {
		e.Reason.PolicyType, e.Reason.PolicyID = "countersign", ev.rule.Name
		d.Mode = string(ev.rule.Mode)
		if ev.rule.BreakGlass() {
			d.Until = ev.rule.Until.Format(time.RFC3339)
		}
	}
	if ev.spec != nil {
		d.KeyType, d.HashMethod, d.CertificateID = string(ev.spec.KeyType), string(ev.spec.HashMethod), ev.spec.CertificateID
	}
	e.Attachments = []cadfAttachment{{"mime:application/json", "countersign", d}}
	text, _ := json.Marshal(e) // strings and numbers cannot fail
	return text
}
