import { charts } from "./charts.js";
import { forms } from "./forms.js";
import { keys } from "./keys.js";
import { live } from "./live.js";
import { theme } from "./toggle.js";

theme();
keys();
forms();
charts();
live();
