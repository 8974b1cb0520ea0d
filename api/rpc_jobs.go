package api

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/api/jobs"
	jobsv1 "github.com/clearward/clearward/proto/clearward/jobs/v1"
)

// jobService shows and manages what is done by the clock.
type jobService struct{ s *Server }

func runMessage(r *jobs.Run) *jobsv1.Run {
	if r == nil {
		return nil
	}
	out := &jobsv1.Run{Number: r.N, DueAt: timestamppb.New(r.DueAt), StartedAt: timestamppb.New(r.StartedAt), State: r.State, Done: r.Done, Error: r.Error}
	if r.EndedAt != nil {
		out.EndedAt = timestamppb.New(*r.EndedAt)
	}
	return out
}

// ListJobs implements the call.
func (j jobService) ListJobs(ctx context.Context, _ *jobsv1.ListJobsRequest) (*jobsv1.ListJobsResponse, error) {
	all, err := j.s.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	out := &jobsv1.ListJobsResponse{}
	for _, s := range all {
		out.Jobs = append(out.Jobs, &jobsv1.Job{Name: s.Name, Cron: s.Cron, PausedBy: s.PausedBy, NextAt: timestamppb.New(s.NextAt), Last: runMessage(s.Last)})
	}
	return out, nil
}

// ListRuns implements the call.
func (j jobService) ListRuns(ctx context.Context, q *jobsv1.ListRunsRequest) (*jobsv1.ListRunsResponse, error) {
	runs, err := j.s.JobHistory(ctx, q.GetName())
	if err != nil {
		return nil, err
	}
	out := &jobsv1.ListRunsResponse{}
	for i := range runs {
		out.Runs = append(out.Runs, runMessage(&runs[i]))
	}
	return out, nil
}

// PauseJob implements the call.
func (j jobService) PauseJob(ctx context.Context, q *jobsv1.PauseJobRequest) (*jobsv1.PauseJobResponse, error) {
	return &jobsv1.PauseJobResponse{}, j.s.manage(ctx, caller(ctx).Name, "pause", q.GetName())
}

// ResumeJob implements the call.
func (j jobService) ResumeJob(ctx context.Context, q *jobsv1.ResumeJobRequest) (*jobsv1.ResumeJobResponse, error) {
	return &jobsv1.ResumeJobResponse{}, j.s.manage(ctx, caller(ctx).Name, "resume", q.GetName())
}

// RunJob implements the call.
func (j jobService) RunJob(ctx context.Context, q *jobsv1.RunJobRequest) (*jobsv1.RunJobResponse, error) {
	return &jobsv1.RunJobResponse{}, j.s.manage(ctx, caller(ctx).Name, "run", q.GetName())
}
