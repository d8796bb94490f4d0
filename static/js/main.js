import { live } from "./live.js";
import { keys } from "./keys.js";
import { forms } from "./forms.js";
import { theme } from "./toggle.js";

theme();
keys();
forms();
live();
