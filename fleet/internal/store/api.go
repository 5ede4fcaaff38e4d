package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ask makes a call of JetStream's API, which the leader of the stream answers. Its error is an
// *APIError when the leader refuses.
func ask[T any](ctx context.Context, conn *nats.Conn, subject string, body any) (answer T, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return answer, err
	}
	m, err := conn.RequestWithContext(ctx, "$JS.API."+subject, data)
	if err != nil {
		return answer, err
	}
	var whole struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err = json.Unmarshal(m.Data, &whole); err == nil && whole.Error == nil {
		err = json.Unmarshal(m.Data, &answer)
	}
	switch {
	case err != nil:
		return answer, fmt.Errorf("the answer of %s: %w", subject, err)
	case whole.Error != nil:
		return answer, whole.Error
	}
	return answer, nil
}

// lastOfLeader asks the leader of the state for the one message of a subject. Clients of NATS ask
// any replica where a stream allows that, and one may lag behind.
func (s *Store) lastOfLeader(ctx context.Context, subject string) (message, error) {
	type answer struct {
		Message struct {
			Seq  uint64    `json:"seq"`
			Time time.Time `json:"time"`
			Data []byte    `json:"data"`
		} `json:"message"`
	}
	a, err := ask[answer](ctx, s.conn, "STREAM.MSG.GET."+s.streamName("state"), map[string]string{"last_by_subj": subject})
	if isCode(err, jetstream.JSErrCodeMessageNotFound) {
		return message{}, nil
	}
	return message{subject, a.Message.Seq, a.Message.Time, a.Message.Data}, err
}

// isGone reports whether a message could not be deleted because it is not there any more.
func isGone(err error) bool {
	var refused *jetstream.APIError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.ErrorCode {
	case sequenceNotFound, jetstream.JSErrCodeMessageNotFound:
		return true
	case deleteFailed:
		return slices.Contains([]string{"no message found", "deleted message", "stream store EOF"}, refused.Description)
	}
	return false
}

const (
	sequenceNotFound = 10043
	deleteFailed     = 10057 // with the words of the store
)

// delete deletes a message, and reports whether it was there.
func (s *Store) delete(ctx context.Context, stream string, seq uint64) (was bool, err error) {
	body := struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, true}
	_, err = ask[struct{}](ctx, s.conn, "STREAM.MSG.DELETE."+stream, body)
	if isGone(err) {
		return false, nil
	}
	return err == nil, err
}
