package proxy_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// list answers GET /v2/images as Glance does: in order of creation, a page at a
// time, without hidden images unless they are asked for, and with 400 for a
// marker that is no image. A page has three images at most, whatever is asked for.
func (g *fakeGlance) list(w http.ResponseWriter, r *http.Request, project string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	query := r.URL.Query()
	all := []record{}
	for _, img := range g.images {
		hidden, _ := img["os_hidden"].(bool)
		if status := query.Get("status"); status != "" && img["status"] != status || strconv.FormatBool(hidden) != cmp.Or(query.Get("os_hidden"), "false") ||
			project != "service" && img.text("owner") != project {
			continue
		}
		all = append(all, img)
	}
	slices.SortFunc(all, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.text("created_at"), b.text("created_at")), cmp.Compare(a.text("id"), b.text("id")))
	})
	if marker := query.Get("marker"); marker != "" {
		at := slices.IndexFunc(all, func(img record) bool { return img["id"] == marker })
		if at < 0 {
			http.Error(w, "Invalid marker", http.StatusBadRequest)
			return
		}
		all = all[at+1:]
	}
	answer := map[string]any{"first": "/v2/images", "images": all[:min(len(all), 3)]}
	if len(all) > 3 {
		answer["next"] = "/v2/images?marker=" + all[2].text("id")
	}
	json.NewEncoder(w).Encode(answer)
}
