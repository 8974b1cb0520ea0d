package recon

// SwitchOff switches off one stage of the matcher.
func (e *Engine) SwitchOff(stage string) { e.noStage = map[string]bool{stage: true} }
